//! What a host must have: a list of checks, each with the command that mends what it finds.

mod conditions;
mod packages;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use futures_util::future::join_all;
use serde::Serialize;

use skep_driver::qemu::{Accelerator, QemuVersion, program};
use skep_net::firewall::{self, Docker, Frames, Obstacle, Rules, closed_chains};
use skep_net::network::{self, Network};
use skep_net::privileged_helper::HelperNetwork;
use skep_net::setup;
use skep_net::userns::UsernsNetwork;
use skep_sys::is_root;
use skep_sys::{Cmd, CmdError, FileError, can_write, free_space, present};

use packages::{install, newer_qemu};

/// What nodes take on disk before anything runs in them, and the image beside them.
const ROOM_MIB: u64 = 1024;

/// One check and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// What was found.
    pub verdict: Verdict,
    /// What was found, in words.
    pub found: String,
    /// What mends it: a command to type; empty if nothing has to be mended.
    pub remedy: String,
}

impl Check {
    /// Tells whether whoever brings machines up is to be warned: of what they would not notice before it is too late.
    #[must_use]
    pub fn is_said_by_up(&self) -> bool {
        self.verdict == Verdict::Warning
            && [RIGHTS, conditions::LOGOUT, conditions::ISOLATION, conditions::DNS, BETWEEN_NODES]
                .contains(&self.name)
    }
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is as it should be.
    Ok,
    /// It works, and could be better.
    Warning,
    /// Nothing can be made before it is mended.
    Failed,
}

/// What is going to be done, as far as it says what is needed.
#[derive(Debug, Clone, Copy)]
pub struct Needs<'a> {
    /// Where state is kept.
    pub store: &'a Path,
    /// Where images are kept.
    pub cache: &'a Path,
    /// Whether an image has to be built.
    pub build: bool,
    /// What acts as root for this user, if this is not root.
    pub helper: Option<&'a HelperNetwork>,
    /// The networks of this user's own, if the clusters have theirs there.
    pub userns: Option<&'a UsernsNetwork>,
}

/// Checks the host.
pub async fn check(needs: Needs<'_>) -> Vec<Check> {
    let (rights, qemu, programs, firewall) =
        tokio::join!(rights(&needs), qemu(), programs(needs.build), obstacles(&needs));
    let mut checks = vec![rights, qemu];
    checks.extend(programs);
    if needs.build && !is_root() {
        checks.push(owners().await);
    }
    checks.push(room("space for state", needs.store, ROOM_MIB, "SKEP_HOME"));
    if needs.build {
        checks.push(room("space for the image", needs.cache, 3 * ROOM_MIB, "XDG_CACHE_HOME"));
    }
    checks.push(kvm(program::has(Accelerator::Tcg).await.unwrap_or(true)));
    checks.extend(conditions::check(needs.store, needs.cache, needs.build).await);
    if needs.userns.is_some() {
        checks.push(way_out().await);
    }
    checks.extend(firewall);
    checks
}

/// Measures what makes clusters slow here. It takes a moment, so it is for who asks what could be better.
pub async fn measure(needs: Needs<'_>) -> Vec<Check> {
    conditions::measure(needs.store).await
}

fn good(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, verdict: Verdict::Ok, found: found.into(), remedy: String::new() }
}

fn bad(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check { name, verdict: Verdict::Failed, found: found.into(), remedy: remedy.into() }
}

/// The check of rights, which root passes with a warning in somebody else's home.
const RIGHTS: &str = "rights";

/// Returns who owns what there is of a path, and which directory that is.
fn home_of(path: &Path) -> (u32, PathBuf) {
    let present = present(path).unwrap_or(Path::new("/"));
    let owner = std::fs::metadata(present).map_or(0, |found| found.uid());
    (owner, present.to_owned())
}

/// Judges where root's clusters would be, as sudo -E has it. The user could neither use nor remove what root creates in their
/// home, and root does not believe what is theirs.
fn of_root(store: &Path, (owner, dir): &(u32, PathBuf)) -> Check {
    if *owner == 0 {
        return good(RIGHTS, "root");
    }
    let (store, dir, user) = (store.display(), dir.display(), skep_sys::user_name(*owner));
    let found = format!("root's clusters would be in {store}, and {dir} is {user}'s");
    let remedy = "run the same command with sudo -H, which uses root's own home";
    Check { name: RIGHTS, verdict: Verdict::Warning, found, remedy: remedy.to_owned() }
}

/// Checks that networks can be made for whoever this is.
async fn rights(needs: &Needs<'_>) -> Check {
    const NAME: &str = RIGHTS;
    if let Some(userns) = needs.userns {
        return match userns.hello().await {
            Ok(()) => good(NAME, "networks in a user namespace (--net user)"),
            Err(error) => bad(NAME, skep_sys::chain(&error), namespaces(&error)),
        };
    }
    if is_root() {
        return of_root(needs.store, &home_of(needs.store));
    }
    let Some(helper) = needs.helper else {
        let remedy = format!(
            "{} (once); or use --net user, which needs no root; or run the same command with sudo -H, for a \
             cluster of root's",
            setup::remedy()
        );
        return bad(NAME, "bridges and firewall rules need root", remedy);
    };
    let error = match helper.hello().await {
        Ok(()) => return good(NAME, "non-root user; the privileged helper creates networks"),
        Err(error @ network::Error::OtherHelper(_)) => {
            return bad(NAME, skep_sys::chain(&error), setup::remedy());
        }
        Err(error) => error,
    };
    let name = Cmd::new("id").arg("-un").run().await.map(|it| it.text()).unwrap_or_default();
    let in_group = async |args: &[&str]| {
        let groups = Cmd::new("id").args(args).run().await.map(|it| it.text()).unwrap_or_default();
        groups.split_whitespace().any(|it| it == setup::GROUP)
    };
    let group = setup::GROUP;
    if in_group(&["-Gn"]).await {
        return bad(NAME, skep_sys::chain(&error), setup::remedy());
    }
    if in_group(&["-Gn", &name]).await {
        let found = format!("{name} is in group {group} after the next login");
        return bad(NAME, found, format!("log out and in again, or in this shell: newgrp {group}"));
    }
    let remedy = format!("{} --user {name}", setup::remedy());
    bad(NAME, format!("{name} is not in group {group}"), remedy)
}

/// Returns what lets a user have a network in a namespace.
fn namespaces(error: &network::Error) -> String {
    match error {
        network::Error::Refused(reason) if reason.contains("/dev/net/tun") => {
            "sudo chmod 666 /dev/net/tun".to_owned()
        }
        network::Error::NoNamespace(CmdError::NotFound { .. }) => install("util-linux"),
        _ => users_namespaces(),
    }
}

/// Returns what lets ordinary users have namespaces.
fn users_namespaces() -> String {
    match setup::is_restricted() {
        // AppArmor wants a profile of the program, which the set-up brings.
        true => setup::remedy(),
        false => "sudo sysctl -w kernel.unprivileged_userns_clone=1".to_owned(),
    }
}

/// Checks that an ordinary user can have files of many owners, as an image has.
async fn owners() -> Check {
    const NAME: &str = "user namespaces";
    let error = match Cmd::new("true").contained_root().run().await {
        Ok(_) => return good(NAME, "images can be built"),
        Err(error) => skep_sys::chain(&error),
    };
    let remedy = if error.contains("newuidmap") || error.contains("newgidmap") {
        install("uidmap")
    } else if error.contains("no line matching") || error.contains("subuid") {
        setup::remedy()
    } else {
        users_namespaces()
    };
    bad(NAME, error, remedy)
}

/// Checks that nodes in a network of their user's own get out of it.
async fn way_out() -> Check {
    const NAME: &str = "internet access";
    match Cmd::new("pasta").arg("--version").status().await {
        Err(CmdError::NotFound { .. }) => Check {
            name: NAME,
            verdict: Verdict::Warning,
            found: "without pasta, nodes reach only each other and this host".to_owned(),
            remedy: install("passt"),
        },
        _ => good(NAME, "pasta"),
    }
}

/// Checks the version of QEMU, and that it has what machines are made of.
async fn qemu() -> Check {
    const NAME: &str = "QEMU";
    let (version, build) = match QemuVersion::installed().await {
        Ok(found) => found,
        Err(error @ skep_driver::Error::OldQemu { found, .. }) => {
            return bad(NAME, skep_sys::chain(&error), newer_qemu(found));
        }
        Err(error) => return bad(NAME, skep_sys::chain(&error), install("qemu-system-x86")),
    };
    match program::missing_devices().await {
        Ok(missing) if missing.is_empty() => good(NAME, format!("version {version}")),
        Ok(missing) => {
            let found = format!("this build lacks {}: {build}", missing.join(", "));
            bad(NAME, found, install("qemu-system-x86"))
        }
        Err(error) => bad(NAME, skep_sys::chain(&error), install("qemu-system-x86")),
    }
}

/// The programs, what they are for, and the Debian packages that have them.
const PROGRAMS: &[(&str, &str)] = &[
    ("qemu-img", "qemu-utils"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("ssh-keygen", "openssh-client"),
];

/// The programs that only the building of an image needs.
const BUILD_PROGRAMS: &[(&str, &str)] = &[
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("xz", "xz-utils"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
];

async fn programs(build: bool) -> Vec<Check> {
    const NAME: &str = "programs";
    let wanted = PROGRAMS.iter().chain(if build { BUILD_PROGRAMS } else { &[] });
    let mut missing = Vec::new();
    let mut packages = Vec::new();
    let looks = wanted.map(async |(program, package)| {
        (program, package, Cmd::new(program).arg("--version").status().await)
    });
    for (program, package, ran) in join_all(looks).await {
        if let Err(CmdError::NotFound { .. }) = ran {
            missing.push(*program);
            if !packages.contains(package) {
                packages.push(*package);
            }
        }
    }
    if missing.is_empty() {
        return vec![good(NAME, "all installed")];
    }
    vec![bad(NAME, format!("{} not installed", missing.join(", ")), install(&packages.join(" ")))]
}

/// Checks that a directory can be written and has room; `variable` chooses another one.
fn room(name: &'static str, dir: &Path, needed_mib: u64, variable: &str) -> Check {
    // What is to be made there may not be there yet.
    let Some(present) = present(dir) else {
        let remedy = format!("mkdir -p {}", dir.display());
        return bad(name, format!("{} does not exist", dir.display()), remedy);
    };
    if let Err(error) = can_write(present) {
        return unwritable(name, &error, variable);
    }
    match free_space(present).map(|bytes| bytes >> 20) {
        Ok(free) if free >= needed_mib => good(name, format!("{free} MiB free")),
        Ok(free) => {
            let found = format!("{} has {free} MiB free and needs {needed_mib}", present.display());
            bad(
                name,
                found,
                "skep cache prune; or set SKEP_HOME and XDG_CACHE_HOME to a disk with more space",
            )
        }
        Err(error) => bad(name, skep_sys::chain(&error), ""),
    }
}

fn unwritable(name: &'static str, error: &FileError, variable: &str) -> Check {
    let remedy = format!("export {variable}=DIRECTORY  # one that you can write");
    bad(name, skep_sys::chain(error), remedy)
}

/// Checks that KVM can be tried. Only a QEMU that emulates goes without.
fn kvm(emulates: bool) -> Check {
    const NAME: &str = "KVM";
    match std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => good(NAME, "/dev/kvm opens; `up` tests whether a guest runs under it"),
        Err(error) => Check {
            name: NAME,
            verdict: if emulates { Verdict::Warning } else { Verdict::Failed },
            found: match emulates {
                true => format!("/dev/kvm: {error}; guests run 5 to 20 times slower without it"),
                false => {
                    let program = program::program();
                    format!("/dev/kvm: {error}; {} has no software emulation", program.display())
                }
            },
            remedy: match error.kind() {
                std::io::ErrorKind::PermissionDenied if belongs_to_root("/dev/kvm") => {
                    "sudo chgrp kvm /dev/kvm && sudo chmod g+rw /dev/kvm".to_owned()
                }
                std::io::ErrorKind::PermissionDenied => {
                    format!("{}, and log in again", setup::remedy())
                }
                _ => "sudo modprobe kvm_intel (or kvm_amd); in a virtual machine, enable nested virtualization in its hypervisor"
                    .to_owned(),
            },
        },
    }
}

/// Tells whether no group has a device, so that to be in one gives nothing.
fn belongs_to_root(device: &str) -> bool {
    std::fs::metadata(device).is_ok_and(|it| std::os::unix::fs::MetadataExt::gid(&it) == 0)
}

/// Tells whether what stays on a bridge passes the rules for packets too: br_netfilter, which Docker and Kubernetes load
/// (ip-sysctl, `bridge-nf-call-iptables`).
fn filters_bridged_frames() -> bool {
    let text = std::fs::read("/proc/sys/net/bridge/bridge-nf-call-iptables");
    text.is_ok_and(|text| text.first() == Some(&b'1'))
}

/// Whether a firewall that is in the way of clusters may be in the way between nodes, too.
const BETWEEN_NODES: &str = "firewall between nodes";

/// Judges what is in the way of clusters; `bridged` tells whether frames between nodes pass it, too.
fn judge_firewall(obstacles: &[Obstacle], bridged: bool) -> Vec<Check> {
    const NAME: &str = "firewall";
    if obstacles.is_empty() {
        return vec![good(NAME, "allows what skep needs")];
    }
    let names = |fits: &dyn Fn(Frames) -> bool| {
        let names = obstacles.iter().filter(|it| fits(it.frames)).map(|it| it.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let check = |name, verdict, found| Check {
        name,
        verdict,
        found,
        remedy: "skep firewall apply".to_owned(),
    };
    let around = format!(
        "{} drops traffic from bridges: nodes may not reach this host or the internet",
        names(&|_| true)
    );
    let mut checks = vec![check(NAME, Verdict::Warning, around)];
    let between = |verdict, names: String, does: &str| {
        let found = format!(
            "{names} {does} traffic between nodes, because frames within a bridge pass it \
             (net.bridge.bridge-nf-call-iptables is 1): no swarm can form"
        );
        check(BETWEEN_NODES, verdict, found)
    };
    let drop = names(&|frames| frames == Frames::Drop);
    let may_drop = names(&|frames| frames == Frames::MayDrop);
    if bridged && !drop.is_empty() {
        checks.push(between(Verdict::Failed, drop, "drops"));
    }
    if bridged && !may_drop.is_empty() {
        checks.push(between(Verdict::Warning, may_drop, "may drop"));
    }
    checks
}

async fn look_closely() -> Result<Rules, firewall::Error> {
    let (rules, closed) = tokio::join!(firewall::look(Docker::IfInstalled), closed_chains());
    let mut rules = rules?;
    rules.closed = closed?;
    Ok(rules)
}

/// Judges chains that keep this host from its nodes: no engine would ever answer.
fn judge_closed(chains: &[String]) -> Option<Check> {
    let found = format!(
        "{} drops what this host and its nodes send to each other, so no engine could be reached",
        chains.join(", ")
    );
    let check = bad("firewall to nodes", found, "skep firewall apply");
    (!chains.is_empty()).then_some(check)
}

async fn obstacles(needs: &Needs<'_>) -> Vec<Check> {
    const NAME: &str = "firewall";
    let rules = match needs.helper {
        // The host's firewall does not see what is in another network.
        _ if needs.userns.is_some() => return Vec::new(),
        // Whether it answers at all is another check's matter.
        Some(helper) => match helper.look().await {
            Ok(host) => Ok(host.rules().clone()),
            Err(_) => return Vec::new(),
        },
        // Without root nothing of it is to be seen.
        None if !is_root() => return Vec::new(),
        None => look_closely().await,
    };
    match rules {
        Ok(rules) => {
            let mut checks = judge_firewall(&rules.obstacles, filters_bridged_frames());
            checks.extend(judge_closed(&rules.closed));
            checks
        }
        Err(error) => vec![bad(NAME, skep_sys::chain(&error), install("nftables"))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_warned_in_somebody_elses_home() {
        let store = Path::new("/homes/alice/.local/share/skep");
        assert_eq!(of_root(store, &(0, "/root".into())).verdict, Verdict::Ok);
        let check = of_root(store, &(4_000_000, "/homes/alice".into()));
        assert!(check.is_said_by_up() && check.remedy.contains("sudo -H"), "{check:?}");
        assert!(check.found.ends_with("/homes/alice is user 4000000's"), "{}", check.found);
        let dir = tempfile::tempdir().unwrap();
        let (_, found) = home_of(&dir.path().join("a/b"));
        assert_eq!(found, dir.path());
    }

    #[test]
    fn a_firewall_that_certainly_drops_frames_between_nodes_is_refused_and_one_that_may_is_announced()
     {
        let judged = |frames: &[Frames], bridged| {
            let obstacle = |frames: &Frames| Obstacle { name: "ufw".into(), frames: *frames };
            let obstacles: Vec<_> = frames.iter().map(obstacle).collect();
            judge_firewall(&obstacles, bridged)
        };
        let verdicts = |frames: &[Frames], bridged| {
            let checks = judged(frames, bridged);
            checks.iter().map(|it| (it.verdict, it.is_said_by_up())).collect::<Vec<_>>()
        };
        let around = (Verdict::Warning, false);
        assert_eq!(verdicts(&[], true), [(Verdict::Ok, false)]);
        for frames in [Frames::Pass, Frames::MayDrop, Frames::Drop] {
            assert_eq!(verdicts(&[frames], false), [around]);
        }
        assert_eq!(verdicts(&[Frames::Pass], true), [around]);
        assert_eq!(verdicts(&[Frames::MayDrop], true), [around, (Verdict::Warning, true)]);
        assert_eq!(verdicts(&[Frames::Drop], true), [around, (Verdict::Failed, false)]);
        let refused = judged(&[Frames::Drop], true).remove(1);
        assert!(refused.found.contains("bridge-nf-call-iptables"), "{}", refused.found);
        assert_eq!(refused.remedy, "skep firewall apply");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named_with_the_variable_that_chooses_another() {
        let error = std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem);
        let error = FileError::new("write in", Path::new("/srv/skep"), error);
        let check = unwritable("space for state", &error, "SKEP_HOME");
        assert_eq!(check.verdict, Verdict::Failed, "{check:?}");
        assert_eq!(
            check.found,
            "cannot write in /srv/skep: read-only filesystem or storage medium"
        );
        assert!(check.remedy.starts_with("export SKEP_HOME="), "{check:?}");
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(room("space for state", dir.path(), 0, "SKEP_HOME").verdict, Verdict::Ok);
    }
}
