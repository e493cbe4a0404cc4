//! What a user is told when a cluster could not be looked at or changed.

use skep_core::plan::{PlanError, Standing};
use skep_ops::observe;
use skep_ops::{Error, Failed, Fate, Refusal};
use skep_print::errln;

use super::{CliError, Context as _, stack_refusal};
use crate::context::chmod;

impl From<PlanError> for CliError {
    fn from(error: PlanError) -> Self {
        let text = error.to_string();
        match error {
            PlanError::SubnetTaken { .. } | PlanError::NoFreeSubnet { .. } => Self::usage(text)
                .hint("run the same command with a free subnet, such as --subnet 172.30.5.0/24"),
            PlanError::SubnetFixed { cluster, recorded, .. } => Self::usage(text)
                .hint(format!("run the same command with its current subnet, {recorded}"))
                .hint(format!("skep down {cluster}  # deletes all its data; then create it again")),
            PlanError::Registry(_) => Self::usage(text).hint("skep registry stop").hint(
                "run the same command with --force  # deletes the images that were pushed to it",
            ),
            PlanError::RegistryElsewhere { there, .. } => Self::usage(text).hint(format!(
                "skep registry stop  # {there} keeps its images until it is removed"
            )),
            PlanError::NoMember { .. } => Self::failed(text).hint("skep up  # repairs what it can"),
            PlanError::Quorum(_) => Self::failed(text),
            _ => Self::usage(text),
        }
    }
}

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        match error {
            Error::Plan(error) => error.into(),
            Error::Steps(failures) => Self::from_failures(&failures),
            Error::Refused(refusal) => refused(&refusal),
            Error::Exposed(ref exposed) => {
                let told = Self::failed(error.to_string());
                exposed.iter().fold(told, |told, it| told.hint(chmod(it)))
            }
            Error::Observe { cluster, source } => {
                let hints = match &*source {
                    observe::Error::Store(error) if error.is_newer() => {
                        vec!["the skep that wrote it, or a newer one".to_owned()]
                    }
                    observe::Error::Store(_) | observe::Error::NoRecord(_) => vec![
                        format!("skep support-bundle {cluster}  # collects what can be read of it"),
                        format!(
                            "skep down {cluster}  # last: removes the cluster and all its data"
                        ),
                    ],
                    _ => vec!["skep doctor".to_owned()],
                };
                hints.into_iter().fold(told(*source, &format!("cluster {cluster}")), Self::hint)
            }
            Error::Lock { cluster, source } => told(source, &format!("cluster {cluster}")),
            Error::List(source) => told(source, "cannot list clusters"),
            Error::NoteUserns(source) => told(source, "cannot note --net user"),
            Error::Names(source) => told(source, "cannot read names"),
            Error::Shell { node, source } => told(source, node.as_str()),
            Error::RootInUserns => Self::usage("--net user is for non-root users"),
            Error::OtherNetworks { .. } => Self::usage(error.to_string())
                .hint("SKEP_HOME=DIRECTORY with the same command, for others"),
            Error::ListNodes(source) => told(source, "cannot list nodes"),
            Error::Record { cluster, source } => told(*source, &format!("cluster {cluster}")),
            Error::NoRunningManager(ref cluster) => {
                let hint = format!("skep start {cluster}");
                Self::failed(error.to_string()).hint(hint)
            }
            Error::NoDocker => Self::host(error.to_string()).hint("apt-get install docker-cli"),
            Error::WentDown(_) => Self::failed(error.to_string())
                .hint("skep status  # skep up starts what is down; then run the command again"),
            Error::Docker { what, source } => told(source, &what),
            Error::Services { what, source } => told(source, &what),
            Error::StackRefused { ref said, .. } => {
                let told = Self::failed(error.to_string());
                match stack_refusal::advice(said) {
                    Some(advice) => told.hint(advice),
                    None => told,
                }
            }
            Error::OfStack { stack, source } => {
                Self::from(*source).within(&format!("stack {stack}"))
            }
            Error::NoConsole(ref node) => {
                let hint = format!("skep logs {node} --service docker");
                Self::failed(error.to_string()).hint(hint)
            }
            Error::Console { node, source } => told(source, &format!("{node} has no console log")),
            Error::Restless
            | Error::NotRunning(_)
            | Error::NoLog { .. }
            | Error::NotConverged { .. }
            | Error::Exists(_) => Self::failed(error.to_string()),
        }
    }
}

impl From<Refusal> for CliError {
    fn from(refusal: Refusal) -> Self {
        refused(&refusal)
    }
}

fn told(error: impl std::error::Error + 'static, what: &str) -> CliError {
    Err::<(), _>(error).context(what).expect_err("it is an error")
}

fn refused(refusal: &Refusal) -> CliError {
    let text = refusal.to_string();
    let publish = "run the same command with --publish PORT  # then open http://localhost:PORT";
    let bridge = "sudo skep setup  # then run the same command without --net user";
    match refusal {
        Refusal::PortTaken(port) => {
            CliError::usage(text).hint(format!("ss -ltnp 'sport = :{port}'  # shows it"))
        }
        Refusal::PortOfRoot { port, lowest } => CliError::usage(text)
            .hint(format!("use a port of {lowest} or higher"))
            .hint(format!("sudo sysctl -w net.ipv4.ip_unprivileged_port_start={port}")),
        Refusal::CutOff { cluster, .. } => {
            CliError::failed(text).hint(format!("skep stop {cluster} && skep up {cluster}"))
        }
        Refusal::HostsInUserns => CliError::usage(text).hint(bridge),
        Refusal::PeersInUserns => CliError::usage(text).hint(bridge).hint(publish),
        Refusal::NamesInUserns => CliError::usage(text).hint(publish),
        Refusal::HostsNotReady(hosts) => hosts.iter().fold(CliError::host(text), |error, it| {
            let host = &it.host;
            let key = host.key.as_ref().map_or(String::new(), |key| format!(" -i {key}"));
            let (port, user, address) = (host.port, &host.user, host.address);
            error.hint(format!("ssh -p {port}{key} {user}@{address} sudo -n true"))
        }),
    }
}

/// Turns an `up` or a `start` that failed into what the user is told; `again` is the command that goes on.
pub fn failed(failed: Failed, cluster: &str, again: &str) -> CliError {
    let error = CliError::from(failed.error);
    match failed.fate {
        Fate::Untouched => error,
        Fate::Removed => {
            error.hint("run the same command with --no-rollback to inspect what failed")
        }
        Fate::Remains(second) => {
            errln!("{}", CliError::from(*second));
            error.hint(again).hint(format!("skep down {cluster}  # removes what is left"))
        }
        Fate::Kept(standing) => with_standing(error, standing, again),
        Fate::Unknown(second) => {
            errln!("{}", CliError::from(*second));
            error.hint(again).hint(format!("skep status {cluster}"))
        }
    }
}

/// Adds to an error which nodes work and what is wrong with the others, and how to go on.
fn with_standing(mut error: CliError, standing: Option<Standing>, again: &str) -> CliError {
    let Some(standing) = standing else { return error.hint(again) };
    error.message = format!("{}\n{standing}", error.message);
    let status = format!("skep status {}", standing.cluster);
    error.hint(format!("{again}  # continues from there")).hint(match standing.is_whole() {
        true => format!("{status} --verify"),
        false => status,
    })
}
