//! The commands and their options, as data: the parser reads them, and help is rendered from them.

use super::argparse::Opt;

/// A command.
#[derive(Debug, Clone, Copy)]
pub struct CommandSpec {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a line.
    pub usage: &'static str,
    /// What its arguments are.
    pub description: &'static str,
    /// Its options.
    pub options: &'static [Opt<'static>],
}

const fn command(
    name: &'static str,
    usage: &'static str,
    description: &'static str,
    options: &'static [Opt<'static>],
) -> CommandSpec {
    CommandSpec { name, usage, description, options }
}

const ONE: &str = "Argument is a machine name.";
const SEVERAL: &str = "Argument(s) are one or more machine names.";

/// All commands in the order of help.
pub const COMMANDS: [CommandSpec; 22] = [
    command("active", "Print which machine is active", "", &[TIMEOUT]),
    command(
        "config",
        "Print the connection config for machine",
        ONE,
        &[Opt::switch(&["swarm"], "Display the Swarm config instead of the Docker daemon")],
    ),
    command("create", "Create a machine", CREATE, &CREATE_OPTIONS),
    command(
        "env",
        "Display the commands to set up the environment for the Docker client",
        ONE,
        &[
            Opt::switch(&["swarm"], "Display the Swarm config instead of the Docker daemon"),
            Opt::text(
                &["shell"],
                "",
                "Force environment to be configured for a specified shell: \
             [fish, cmd, powershell, tcsh, emacs], default is auto-detect",
            ),
            Opt::switch(&["unset", "u"], "Unset variables instead of setting them"),
            Opt::switch(&["no-proxy"], "Add machine IP to NO_PROXY environment variable"),
        ],
    ),
    command(
        "inspect",
        "Inspect information about a machine",
        ONE,
        &[Opt::text(&["format", "f"], "", "Format the output using the given go template.")],
    ),
    command("ip", "Get the IP address of a machine", SEVERAL, &[]),
    command("kill", "Kill a machine", SEVERAL, &[]),
    command(
        "ls",
        "List machines",
        "",
        &[
            Opt::switch(&["quiet", "q"], "Enable quiet mode"),
            Opt::list(&["filter"], "Filter output based on conditions provided"),
            TIMEOUT,
            Opt::text(&["format", "f"], "", "Pretty-print machines using a Go template"),
        ],
    ),
    command("provision", "Re-provision existing machines", "", &[]),
    command(
        "regenerate-certs",
        "Regenerate TLS Certificates for a machine",
        SEVERAL,
        &[
            Opt::switch(&["force", "f"], "Force rebuild and do not prompt"),
            Opt::switch(&["client-certs"], "Also regenerate client certificates and CA."),
        ],
    ),
    command("restart", "Restart a machine", SEVERAL, &[]),
    command(
        "rm",
        "Remove a machine",
        SEVERAL,
        &[
            Opt::switch(
                &["force", "f"],
                "Remove local configuration even if machine cannot be removed, \
             also implies an automatic yes (`-y`)",
            ),
            Opt::switch(
                &["y"],
                "Assumes automatic yes to proceed with remove, \
             without prompting further user confirmation",
            ),
        ],
    ),
    command(
        "ssh",
        "Log into or run a command on a machine with SSH.",
        "Arguments are [machine-name] [command]",
        &[],
    ),
    command(
        "scp",
        "Copy files between machines",
        "Arguments are [[user@]machine:][path] [[user@]machine:][path].",
        &[
            Opt::switch(
                &["recursive", "r"],
                "Copy files recursively (required to copy directories)",
            ),
            Opt::switch(
                &["delta", "d"],
                "Reduce amount of data sent over network by sending only the differences \
                 (uses rsync)",
            ),
            Opt::switch(
                &["quiet", "q"],
                "Disables the progress meter as well as warning and diagnostic messages from ssh",
            ),
        ],
    ),
    command(
        "mount",
        "Mount or unmount a directory from a machine with SSHFS.",
        "Arguments are [machine:][path] [mountpoint]",
        &[Opt::switch(&["unmount", "u"], "Unmount instead of mount")],
    ),
    command("start", "Start a machine", SEVERAL, &[]),
    command("status", "Get the status of a machine", ONE, &[]),
    command("stop", "Stop a machine", SEVERAL, &[]),
    command("upgrade", "Upgrade a machine to the latest version of Docker", SEVERAL, &[]),
    command("url", "Get the URL of a machine", ONE, &[]),
    command("version", "Show the Docker Machine version or a machine docker version", "", &[]),
    command("help", "Shows a list of commands or help for one command", "", &[]),
];

const TIMEOUT: Opt<'static> =
    Opt::number(&["timeout", "t"], 10, "Timeout in seconds, default to 10s");

const CREATE: &str = "Run 'docker-machine create --driver name --help' to include the create flags \
                      for that driver in the help text.";

/// The options of `create` that all drivers have.
pub const CREATE_OPTIONS: [Opt<'static>; 19] = [
    Opt::text(&["driver", "d"], "virtualbox", "Driver to create machine with.")
        .or_variable("MACHINE_DRIVER"),
    Opt::text(
        &["engine-install-url"],
        "https://get.docker.com",
        "Custom URL to use for engine installation",
    )
    .or_variable("MACHINE_DOCKER_INSTALL_URL"),
    Opt::list(
        &["engine-opt"],
        "Specify arbitrary flags to include with the created engine in the form flag=value",
    ),
    Opt::list(
        &["engine-insecure-registry"],
        "Specify insecure registries to allow with the created engine",
    ),
    Opt::list(&["engine-registry-mirror"], "Specify registry mirrors to use")
        .or_variable("ENGINE_REGISTRY_MIRROR"),
    Opt::list(&["engine-label"], "Specify labels for the created engine"),
    Opt::text(&["engine-storage-driver"], "", "Specify a storage driver to use with the engine"),
    Opt::list(&["engine-env"], "Specify environment variables to set in the engine"),
    Opt::switch(&["swarm"], "Configure Machine to join a Swarm cluster"),
    Opt::text(&["swarm-image"], "swarm:latest", "Specify Docker image to use for Swarm")
        .or_variable("MACHINE_SWARM_IMAGE"),
    Opt::switch(&["swarm-master"], "Configure Machine to be a Swarm master"),
    Opt::text(&["swarm-discovery"], "", "Discovery service to use with Swarm"),
    Opt::text(&["swarm-strategy"], "spread", "Define a default scheduling strategy for Swarm"),
    Opt::list(&["swarm-opt"], "Define arbitrary flags for Swarm master"),
    Opt::list(&["swarm-join-opt"], "Define arbitrary flags for Swarm join"),
    Opt::text(&["swarm-host"], "tcp://0.0.0.0:3376", "ip/socket to listen on for Swarm master"),
    Opt::text(
        &["swarm-addr"],
        "",
        "addr to advertise for Swarm (default: detect and use the machine IP)",
    ),
    Opt::switch(&["swarm-experimental"], "Enable Swarm experimental features"),
    Opt::list(&["tls-san"], "Support extra SANs for TLS certs"),
];

/// Returns the options that come before the command; `store` is where machines are if none says.
#[must_use]
pub fn global_options(store: &str) -> Vec<Opt<'_>> {
    vec![
        Opt::switch(&["debug", "D"], "Enable debug mode"),
        Opt::text(&["storage-path", "s"], store, "Configures storage path")
            .or_variable("MACHINE_STORAGE_PATH"),
        Opt::text(&["tls-ca-cert"], "", "CA to verify remotes against")
            .or_variable("MACHINE_TLS_CA_CERT"),
        Opt::text(&["tls-ca-key"], "", "Private key to generate certificates")
            .or_variable("MACHINE_TLS_CA_KEY"),
        Opt::text(&["tls-client-cert"], "", "Client cert to use for TLS")
            .or_variable("MACHINE_TLS_CLIENT_CERT"),
        Opt::text(&["tls-client-key"], "", "Private key used in client TLS auth")
            .or_variable("MACHINE_TLS_CLIENT_KEY"),
        Opt::text(&["github-api-token"], "", "Token to use for requests to the Github API")
            .or_variable("MACHINE_GITHUB_API_TOKEN"),
        Opt::switch(&["native-ssh"], "Use the native (Go-based) SSH implementation.")
            .or_variable("MACHINE_NATIVE_SSH"),
        Opt::text(&["bugsnag-api-token"], "", "BugSnag API token for crash reporting")
            .or_variable("MACHINE_BUGSNAG_API_TOKEN"),
        Opt::switch(&["help", "h"], "show help"),
        Opt::switch(&["version", "v"], "print the version"),
    ]
}
