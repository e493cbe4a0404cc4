//! Ways in: `skep ssh`, `scp`, `env`, `docker`.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use skep_core::model::{ClusterName, NodeKind, NodeRecord, first_manager};
use skep_docker::program::{about_snap, only_snap};
use skep_net::userns::UsernsNetwork;
use skep_print::{errln, write_exact};
use skep_store::ClusterDir;
use skep_store::pki::KNOWN_HOSTS;
use skep_sys::{exec, ssh_word};

use crate::cli::{Docker, Env, NodeRef, Scp, Ssh};
use crate::context::Context;
use crate::environment::text_variable;
use crate::error::{CliError, Context as _, code};

/// The words that take the environment's variables and their values apart, by shell.
const VARIABLES: [&str; 4] =
    ["DOCKER_TLS_VERIFY", "DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_MACHINE_NAME"];

pub(super) async fn ssh(context: &Context, args: Ssh) -> Result<u8, CliError> {
    let (cluster, node) = find_running(context, args.cluster.cluster, &args.node).await?;
    let way = Way::to(&cluster, &node);
    Ok(handed_over(context, "ssh", ssh_words(&way, args.command)))
}

/// Settings of a user's for a login that keep a command from being run, or from its standard input (ssh_config(5)). Some
/// are unknown to ssh(1) before 8.7. Whether there is a terminal stays the user's choice.
const FOR_A_COMMAND: [&str; 5] = [
    "IgnoreUnknown=*",
    "RemoteCommand=none",
    "SessionType=default",
    "StdinNull=no",
    "ForkAfterAuthentication=no",
];

/// Returns the arguments of ssh(1) for a node.
fn ssh_words(way: &Way, command: Vec<String>) -> Vec<OsString> {
    let mut words = options(&[way]);
    if !command.is_empty() {
        words.extend(FOR_A_COMMAND.iter().flat_map(|option| ["-o".into(), (*option).into()]));
    }
    words.extend(["-p".into(), way.port.to_string().into()]);
    words.extend(["--".into(), format!("{}@{}", way.user, way.address).into()]);
    words.extend(command.into_iter().map(OsString::from));
    words
}

pub(super) async fn scp(context: &Context, args: Scp) -> Result<u8, CliError> {
    let mut ways = Vec::new();
    let mut paths = Vec::new();
    for path in &args.paths {
        match remote(path) {
            Some((node, rest)) => {
                let (cluster, node) =
                    find_running(context, args.cluster.cluster.clone(), &node).await?;
                let way = Way::to(&cluster, &node);
                paths.push(way.location(rest));
                ways.push(way);
            }
            None => paths.push(path.clone()),
        }
    }
    if ways.is_empty() {
        let message = "no path is on a node: write NODE:PATH or CLUSTER/NODE:PATH";
        return Err(CliError::usage(message));
    }
    let mut words = options(&ways.iter().collect::<Vec<_>>());
    // Between two nodes the bytes go through this host, which knows both.
    words.push("-3".into());
    if args.recursive {
        words.push("-r".into());
    }
    words.push("--".into());
    words.extend(paths.into_iter().map(OsString::from));
    Ok(handed_over(context, "scp", words))
}

/// The way to log in to a node.
struct Way {
    /// Where the keys of its ssh server are pinned.
    dir: PathBuf,
    address: Ipv4Addr,
    user: String,
    port: u16,
    /// The private key; none where ssh(1) finds one.
    key: Option<PathBuf>,
}

impl Way {
    fn to(cluster: &ClusterDir, node: &NodeRecord) -> Self {
        let dir = cluster.machine_dir(node.name());
        let (user, port, key) = match &node.spec.kind {
            NodeKind::Host(host) => {
                (host.user.clone(), host.port, host.key.clone().map(PathBuf::from))
            }
            NodeKind::Vm(_) => ("docker".to_owned(), 22, Some(dir.join("id_rsa"))),
        };
        Self { dir, address: node.address, user, port, key }
    }

    /// Returns what scp(1) calls a path there; in its URLs a path begins at the user's directory.
    fn location(&self, path: &str) -> String {
        let Self { address, user, port, .. } = self;
        match port {
            22 => format!("{user}@{address}:{path}"),
            _ => format!("scp://{user}@{address}:{port}/{path}"),
        }
    }
}

/// Takes `NODE:PATH` apart; a path of this host has no colon before its first slash, or none at
/// all, unless the slash is the one of `CLUSTER/NODE`.
fn remote(path: &str) -> Option<(NodeRef, &str)> {
    let (node, rest) = path.split_once(':')?;
    if node.starts_with(['.', '/']) {
        return None;
    }
    Some((node.parse().ok()?, rest))
}

/// Returns a node that can be reached; one that does not run would keep ssh(1) trying.
async fn find_running(
    context: &Context,
    option: Option<ClusterName>,
    node: &NodeRef,
) -> Result<(ClusterDir, NodeRecord), CliError> {
    let name = node.cluster.clone().or(option);
    let cluster = context.existing(name.as_ref())?;
    let record = context.node(&cluster, &node.node)?;
    if context.session.is_running(&cluster, &record).await {
        return Ok((cluster, record));
    }
    let name = record.name();
    if record.spec.is_host() {
        let address = record.address;
        return Err(CliError::failed(format!("{name} ({address}) does not respond")));
    }
    Err(CliError::failed(format!("{name} is not running"))
        .hint(format!("skep node start {name} --cluster {}", cluster.name())))
}

/// Returns the options of ssh(1) and scp(1) for nodes: their keys, and the host keys they may have.
fn options(ways: &[&Way]) -> Vec<OsString> {
    let mut plain = vec!["PasswordAuthentication=no", "StrictHostKeyChecking=yes"];
    if ways.iter().all(|way| way.key.is_some()) {
        plain.push("IdentitiesOnly=yes");
    }
    let quiet = ["LogLevel=ERROR", "ConnectTimeout=20"];
    let mut options: Vec<OsString> = plain.into_iter().chain(quiet).map(OsString::from).collect();
    let mut known_hosts = OsString::from("UserKnownHostsFile=");
    for way in ways {
        if let Some(key) = &way.key {
            let mut identity = OsString::from("IdentityFile=");
            identity.push(ssh_word(key));
            options.push(identity);
        }
        known_hosts.push(ssh_word(way.dir.join(KNOWN_HOSTS)));
        known_hosts.push(" ");
    }
    options.push(known_hosts);
    let mut words: Vec<OsString> = Vec::new();
    // A user's settings may say how to reach a host of theirs; our machines are not in them.
    if ways.iter().all(|way| way.key.as_ref().is_some_and(|key| key.starts_with(&way.dir))) {
        words.extend(["-F".into(), "/dev/null".into()]);
    }
    for option in options {
        words.extend(["-o".into(), option]);
    }
    words
}

/// Becomes a program that connects to nodes by their addresses.
fn handed_over(context: &Context, program: &str, words: Vec<OsString>) -> u8 {
    let entering = context.session.userns().map(UsernsNetwork::entering).unwrap_or_default();
    let mut all = entering.into_iter().map(OsString::from).chain([program.into()]).chain(words);
    let first = all.next().expect("the program is one");
    let error = exec(first, all, &[]);
    errln!("error: cannot run {program}: {error}");
    code::HOST
}

pub(super) fn env(context: &Context, args: Env) -> Result<(), CliError> {
    let shell = args.shell.clone().or_else(own_shell).unwrap_or_else(|| "sh".to_owned());
    if args.unset {
        for variable in VARIABLES {
            write_exact(format!("{}\n", unset_line(&shell, variable)).as_bytes());
        }
        return Ok(());
    }
    let cluster = context.existing(args.cluster.cluster.as_ref())?;
    let node = match &args.node {
        Some(node) => context.node(&cluster, node)?,
        None => manager(context, &cluster)?,
    };
    let snap = only_snap(&skep_sys::search_path());
    for warning in in_the_way(snap.as_deref(), text_variable("DOCKER_API_VERSION")) {
        errln!("warning: {warning}");
    }
    if args.all {
        let nodes = cluster.nodes().context("cannot list nodes")?;
        let mut nodes: Vec<_> = nodes.into_iter().filter_map(|(_, node)| node.ok()).collect();
        nodes.sort_by_key(|node| node.index);
        for (variable, value) in of_all(context, &nodes) {
            write_exact(format!("{}\n", set_line(&shell, &variable, &value)).as_bytes());
        }
    }
    let values = [
        "1".to_owned(),
        format!("tcp://{}:2376", context.session.host_address(&node)),
        cluster.machine_dir(node.name()).display().to_string(),
        node.name().to_string(),
    ];
    for (variable, value) in VARIABLES.iter().zip(&values) {
        write_exact(format!("{}\n", set_line(&shell, variable, value)).as_bytes());
    }
    if let Some(hosts) = context.session.no_proxy(addresses(context, &cluster)?) {
        // Most programs other than docker look at the lower case first.
        let lower = text_variable("no_proxy").map(|_| "no_proxy");
        for variable in ["NO_PROXY"].into_iter().chain(lower) {
            write_exact(format!("{}\n", set_line(&shell, variable, &hosts)).as_bytes());
        }
    }
    Ok(())
}

/// Returns what keeps the docker command of this host from the nodes, whatever the variables say.
fn in_the_way(snap: Option<&Path>, api_version: Option<String>) -> Vec<String> {
    let snap = snap.map(|snap| format!("{}; type: skep docker -- COMMAND", about_snap(snap)));
    let old = api_version.map(|version| {
        format!(
            "DOCKER_API_VERSION is set to {version}, which the nodes' engines may refuse; type: unset DOCKER_API_VERSION"
        )
    });
    snap.into_iter().chain(old).collect()
}

/// Returns where programs of this host reach the nodes of a cluster.
fn addresses(context: &Context, cluster: &ClusterDir) -> Result<Vec<Ipv4Addr>, CliError> {
    let nodes = cluster.nodes().context("cannot list nodes")?.into_iter();
    let nodes = nodes.filter_map(|(_, node)| node.ok());
    Ok(nodes.map(|node| context.session.host_address(&node)).collect())
}

/// Returns what names every node and its engine: all take the same certificate, so setting `DOCKER_HOST` to
/// another value is enough to speak to another one.
fn of_all(context: &Context, nodes: &[NodeRecord]) -> Vec<(String, String)> {
    let names: Vec<_> = nodes.iter().map(|node| node.name().as_str()).collect();
    let host = |node: &NodeRecord| {
        let name = node.name().as_str().to_uppercase().replace(['-', '.'], "_");
        (
            format!("DOCKER_HOST_{name}"),
            format!("tcp://{}:2376", context.session.host_address(node)),
        )
    };
    let all = ("SKEP_NODES".to_owned(), names.join(" "));
    [all].into_iter().chain(nodes.iter().map(host)).collect()
}

fn own_shell() -> Option<String> {
    let shell = text_variable("SHELL")?;
    Some(shell.rsplit('/').next()?.to_owned())
}

fn set_line(shell: &str, name: &str, value: &str) -> String {
    let value = word_of(shell, value);
    match shell {
        "fish" => format!("set -gx {name} {value};"),
        "tcsh" | "csh" => format!("setenv {name} {value};"),
        "powershell" | "pwsh" => format!("$Env:{name} = {value}"),
        "nu" | "nushell" => format!("$env.{name} = {value}"),
        _ => format!("export {name}={value}"),
    }
}

/// Returns a value as one word of a shell, whatever is in it.
fn word_of(shell: &str, value: &str) -> String {
    if !value.contains(['$', '`', '"', '\\', '!']) {
        return format!("\"{value}\"");
    }
    match shell {
        "fish" => format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'")),
        // An exclamation mark recalls a command even within quotes.
        "tcsh" | "csh" => format!("'{}'", value.replace('\'', r"'\''").replace('!', r"\!")),
        "powershell" | "pwsh" => format!("'{}'", value.replace('\'', "''")),
        "nu" | "nushell" => {
            format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\""))
        }
        _ => skep_sys::shell_quoted(value),
    }
}

fn unset_line(shell: &str, name: &str) -> String {
    match shell {
        "fish" => format!("set -e {name};"),
        "tcsh" | "csh" => format!("unsetenv {name};"),
        "powershell" | "pwsh" => format!("Remove-Item Env:\\{name}"),
        "nu" | "nushell" => format!("hide-env {name}"),
        _ => format!("unset {name}"),
    }
}

pub(super) async fn docker(context: &Context, args: Docker) -> Result<u8, CliError> {
    let cluster = context.existing(args.cluster.cluster.as_ref())?;
    let node = match &args.node {
        Some(node) => context.node(&cluster, node)?,
        None => context.session.running_manager(&cluster).await?,
    };
    let program = context.session.docker_program(Some(&cluster))?;
    let environment = context.session.docker_environment(&cluster, &node);
    let environment: Vec<_> = environment.iter().map(|(key, value)| (*key, &**value)).collect();
    let error = exec(&program, &args.args, &environment);
    Err(CliError::host(format!("cannot run {}: {error}", program.display())))
}

fn manager(context: &Context, cluster: &ClusterDir) -> Result<NodeRecord, CliError> {
    first_manager(context.session.managers(cluster)?.iter())
        .cloned()
        .ok_or_else(|| no_manager(cluster))
}

fn no_manager(cluster: &ClusterDir) -> CliError {
    CliError::failed(format!("cluster {} has no manager", cluster.name()))
        .hint(format!("skep status {}", cluster.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_nodes_are_told_from_those_of_this_host() {
        let (node, rest) = remote("test/node1:/etc/hosts").unwrap();
        assert_eq!((node.node.as_str(), rest), ("node1", "/etc/hosts"));
        assert_eq!(remote("node1:").unwrap().1, "");
        for own in ["file", "./a:b", "/a:b", "../node1:x"] {
            assert!(remote(own).is_none(), "{own}");
        }
    }

    #[test]
    fn what_keeps_docker_from_the_nodes_is_said_with_what_works() {
        assert!(in_the_way(None, None).is_empty());
        let said = in_the_way(Some(Path::new("/snap/bin/docker")), Some("1.23".to_owned()));
        assert!(said[0].starts_with("/snap/bin/docker is a snap"), "{said:?}");
        assert!(said[0].ends_with("type: skep docker -- COMMAND"), "{said:?}");
        assert!(
            said[1].contains("1.23") && said[1].ends_with("unset DOCKER_API_VERSION"),
            "{said:?}"
        );
    }

    #[test]
    fn each_shell_has_its_own_words() {
        insta::assert_snapshot!(
            ["bash", "fish", "tcsh", "powershell", "nu", "unheard-of"]
                .map(|shell| format!(
                    "{shell}: {}  {}",
                    set_line(shell, "A", "b"),
                    unset_line(shell, "A")
                ))
                .join("\n")
        );
    }

    #[test]
    fn any_path_is_one_word_of_each_shell() {
        let path = r#"/a b/$HOME/`id`/"q"/it's/\!"#;
        insta::assert_snapshot!(
            ["bash", "fish", "tcsh", "powershell", "nu"]
                .map(|shell| format!("{shell}: {}", set_line(shell, "A", path)))
                .join("\n")
        );
        // The shell that is here has the last word.
        let script = format!("{}; printf %s \"$A\"", set_line("sh", "A", path));
        let said = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), path);
    }

    #[test]
    fn settings_for_a_login_do_not_keep_a_command_from_running() {
        let dir = tempfile::tempdir().unwrap();
        let (config, address) = (dir.path().join("config"), Ipv4Addr::LOCALHOST);
        let text =
            "RemoteCommand tmux\nSessionType none\nStdinNull yes\nForkAfterAuthentication yes\n";
        std::fs::write(&config, text).unwrap();
        let way = Way { dir: dir.path().into(), address, user: "me".into(), port: 22, key: None };
        // What ssh(1) makes of the settings and our words; the first of two values counts.
        let settings = |command: &[&str]| {
            let command = command.iter().map(|&word| word.to_owned()).collect();
            let mut ssh = std::process::Command::new("ssh");
            ssh.arg("-F").arg(&config).arg("-G").args(ssh_words(&way, command));
            String::from_utf8(ssh.output().unwrap().stdout).unwrap()
        };
        let said = settings(&["uptime"]);
        assert!(said.contains("\nsessiontype default\n"), "{said}");
        for kept_from in ["remotecommand tmux", "stdinnull yes", "forkafterauthentication yes"] {
            assert!(!said.contains(kept_from), "{kept_from}: {said}");
        }
        assert!(settings(&[]).contains("remotecommand tmux"), "a login is the user's own");
    }

    #[test]
    fn a_directory_with_a_blank_stays_one_word() {
        let way = Way {
            dir: "/a b".into(),
            address: Ipv4Addr::new(192, 0, 2, 7),
            user: "me".into(),
            port: 2222,
            key: Some("/a b/id_rsa".into()),
        };
        assert_eq!(way.location("/etc/hosts"), "scp://me@192.0.2.7:2222//etc/hosts");
        let words = options(&[&way]);
        assert!(words.contains(&"IdentityFile=\"/a b/id_rsa\"".into()));
        let way = Way { dir: "/100%".into(), key: Some("/100%/id_rsa".into()), ..way };
        let words = options(&[&way]);
        assert!(words.contains(&"IdentityFile=\"/100%%/id_rsa\"".into()), "{words:?}");
        assert!(words.contains(&"UserKnownHostsFile=\"/100%%/known_hosts\" ".into()), "{words:?}");
    }
}
