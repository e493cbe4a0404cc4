//! Hosts of the generic driver: how they are spoken to, and how their engines are set up.
//!
//! Their keys are pinned in the machine's directory when they are first spoken to. What docker-machine did to
//! every host is done to those that get their engine from here: one that has an engine keeps its name.

use std::path::PathBuf;
use std::time::Duration;

use skep_driver::shell::{Login, SshShell};
use skep_driver::ssh::{Certificates, Facts, Setup, admit, look, set_up, tls_flags};
use skep_net::host_firewall::{Backend, SCRIPT};
use skep_store::pki::{KNOWN_HOSTS, machine as certificates};
use skep_sys::shell::{self, NodeShell};
use skep_sys::{chain, read};

use super::driver::Machine;
use super::say::Say;
use super::wanted::USUAL_INSTALL_URL;

/// Where the certificates of docker-machine's hosts are, and the settings of their engine's service.
const CERTS: &str = "/etc/docker";
const SETTINGS_FILE: &str = "/etc/systemd/system/docker.service.d/10-machine.conf";

/// How long an upgrade may take.
const UPGRADE_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Brings the engine's package up to date, whichever it is.
const UPGRADE: &str = r#"
    export DEBIAN_FRONTEND=noninteractive
    if command -v apt-get >/dev/null; then
        for package in docker-ce docker.io; do
            dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || continue
            apt-get -q update </dev/null &&
                apt-get -q -y -o DPkg::Lock::Timeout=120 install --only-upgrade "$package" </dev/null
            exit
        done
    elif command -v dnf >/dev/null; then
        for package in docker-ce moby-engine; do
            rpm -q "$package" >/dev/null 2>&1 || continue
            exec dnf -q -y upgrade "$package" </dev/null
        done
    fi
    echo 'the engine is of no package that is known here' >&2
    exit 1
"#;

/// Returns a shell on the machine, as root.
pub fn shell(machine: &Machine) -> SshShell {
    let login = machine.login();
    let key = Some(login.key).filter(|key| !key.is_empty()).map(PathBuf::from);
    let port = u16::try_from(login.port).unwrap_or(0);
    let login = Login { host: login.host, user: login.user, port, key, user_config: false };
    SshShell::new(login, &directory(machine))
}

/// Returns the file in which the key of the machine is pinned, if it is.
pub fn pinned(machine: &Machine) -> Option<PathBuf> {
    Some(directory(machine).join(KNOWN_HOSTS)).filter(|path| path.exists())
}

fn directory(machine: &Machine) -> PathBuf {
    let server = PathBuf::from(&machine.config.host_options.auth_options.server_cert_path);
    server.parent().map_or_else(PathBuf::new, std::path::Path::to_owned)
}

/// Tells whether there is no sense in trying again.
pub fn is_final(error: &shell::Error) -> bool {
    matches!(
        error,
        shell::Error::Login { .. } | shell::Error::HostKey { .. } | shell::Error::Ssh(_)
    )
}

/// Sets the machine's engine up, with a certificate made anew.
///
/// # Errors
///
/// If nobody can log in, the host is not fit, or the set-up fails.
pub async fn provision(machine: &Machine, new: bool, user: &str, say: &Say) -> Result<(), String> {
    let shell = shell(machine);
    let facts = look(&shell).await.map_err(|error| chain(&error))?;
    let problems = facts.unfit();
    if !problems.is_empty() {
        return Err(problems.join("; "));
    }
    if new {
        say.info(format!("Provisioning with {}...", provisioner(&facts)));
    }
    let setup = setup(machine);
    if !facts.has_engine() {
        if let Some(url) = setup.install_url.as_ref().filter(|url| !url.starts_with("https://")) {
            return Err(format!(
                "--engine-install-url {url}: use https, because anyone on the network path could change it"
            ));
        }
        say.info("Installing Docker...");
    }
    if let Some(text) = facts.restart_warning() {
        say.info(format!("({}) {text}", machine.name()));
    }
    if let Some(backend) = facts.closed_firewall() {
        say.info(format!("({}) {}", machine.name(), firewall_warning(backend)));
        open_firewall(machine, &shell, backend).await?;
    }
    say.info("Copying certs to the local machine directory...");
    let options = &machine.config.host_options;
    let auth = &options.auth_options;
    let address = machine.ip()?;
    let master = options.swarm_options.master;
    let made = certificates::make_server(auth, user, machine.name(), &address, master).await;
    made.map_err(|error| chain(&error))?;
    say.info("Copying certs to the remote machine...");
    let file = |path: &str| read(path.as_ref()).map_err(|error| chain(&error));
    let certificates = Certificates {
        ca: file(&auth.ca_cert_path)?,
        server: file(&auth.server_cert_path)?,
        server_key: file(&auth.server_key_path)?,
    };
    say.info("Setting Docker configuration on the remote daemon...");
    let done = set_up(&shell, &setup, &certificates).await;
    done.map_err(|error| chain(&error))
}

/// Tells what is done to a machine's firewall, and what is not: which other machines there will be is not known.
fn firewall_warning(backend: Backend) -> String {
    format!(
        "its firewall ({backend}) is on, and is opened for this host. To let in other nodes of a swarm too, run \
         there as root what this prints: skep firewall show --for node --backend {backend} -o script \
         --source SUBNET"
    )
}

/// Lets this host through the machine's firewall.
async fn open_firewall(
    machine: &Machine,
    shell: &dyn NodeShell,
    backend: Backend,
) -> Result<(), String> {
    let address = machine.ip()?;
    let client = address.parse().ok().and_then(skep_net::network::source_to);
    let Some(client) = client else { return Ok(()) };
    let admit = admit(backend, client).map_err(|error| chain(&error))?;
    let done = admit.run(shell, "the opening of its firewall", SCRIPT).await;
    done.map(drop).map_err(|error| chain(&error))
}

/// Returns how the machine's engine is to be.
fn setup(machine: &Machine) -> Setup {
    let engine = machine.engine_setup();
    let (flags, environment) = engine.render_for_systemd();
    let url = &machine.config.host_options.engine_options.install_url;
    Setup {
        owner: None,
        install_url: Some(url.clone()).filter(|url| !url.is_empty() && url != USUAL_INSTALL_URL),
        hostname: Some(machine.name().to_owned()),
        certs: CERTS,
        settings_file: SETTINGS_FILE,
        settings: format!(
            "[Service]\nExecStart=\nExecStart=@EXEC@ -H tcp://0.0.0.0:{} {} {flags}\n{environment}",
            machine.engine_port(),
            tls_flags(CERTS).join(" ")
        ),
    }
}

/// Returns what docker-machine calls the system.
fn provisioner(facts: &Facts) -> &str {
    match facts.id() {
        "ubuntu" => "ubuntu(systemd)",
        other => other,
    }
}

/// Brings the machine's engine up to date.
///
/// # Errors
///
/// If nobody can log in, or the packages cannot be had.
pub async fn upgrade(machine: &Machine, say: &Say) -> Result<(), String> {
    say.info("Upgrading docker...");
    let shell = shell(machine);
    let done = shell.succeed("the upgrade", &["sh", "-c", UPGRADE], b"", UPGRADE_LIMIT).await;
    done.map(drop).map_err(|error| chain(&error))
}
