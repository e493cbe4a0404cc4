//! Conditions of a host under which a cluster works, but is slower, shorter-lived or less isolated than it could be.
//!
//! Each check is a pure judgment of what was read, and a function that reads it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use skep_driver::qemu::{MACHINE_USERS, has_users};
use skep_net::network::{out_of_reach, resolvers};
use skep_sys::is_root;
use skep_sys::{Cmd, Lasting, file_system, lasting, present, sync_time};

use super::{Check, Verdict, bad, good};

/// CAP_SYS_ADMIN, CAP_CHOWN, CAP_SETGID and CAP_SETUID of linux/capability.h: to build an image, and to start QEMU as a
/// user of its own, takes at least these.
const NEEDED: u64 = 1 << 21 | 1 << 7 | 1 << 6 | 1;

/// How long a write may take until it is on the disk. A manager answers when it has written (etcd's raft), and etcd's own
/// advice is 10 ms.
const SLOW_DISK: Duration = Duration::from_millis(20);

/// File systems on which a machine's disk is slow or not safe, by their numbers of linux/magic.h.
const POOR_FILE_SYSTEMS: [(u64, &str); 6] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
    (0xf15f, "eCryptfs"),
];

/// File systems that keep neither modes nor owners of files, by their numbers of linux/magic.h: keys there are readable by all.
const WITHOUT_MODES: [(u64, &str); 4] =
    [(0x4d44, "FAT"), (0x2011_bab0, "exFAT"), (0x5346_544e, "NTFS"), (0x7366_746e, "NTFS")];

/// Clock sources that the kernel reads without a system call on x86 (arch/x86/entry/vdso).
const QUICK_CLOCKS: [&str; 3] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page"];

pub(super) const LOGOUT: &str = "logout";
pub(super) const ISOLATION: &str = "isolation";
pub(super) const DNS: &str = "DNS servers";

/// Makes all of these checks that apply to this user.
pub(super) async fn check(store: &Path, cache: &Path, build: bool) -> Vec<Check> {
    let root = Path::new("/");
    let servers = dns(&resolvers(root), &out_of_reach(root));
    let mut checks = vec![logout(lasting().await), servers];
    if is_root() {
        checks.push(isolation(has_users()));
        checks.push(user_numbers(&[read("/etc/subuid"), read("/etc/subgid")]));
    }
    // Root's templates and trials of KVM run behind it, too.
    if build || is_root() {
        checks.extend(behind_unshare().await);
    }
    for (what, dir) in [("store", store), ("cache", cache)] {
        // What is to be made there may not be there yet.
        let number = present(dir).and_then(|dir| file_system(dir).ok());
        checks.extend(number.and_then(|number| place(what, dir, number)));
    }
    checks.extend(clock(&read("/sys/devices/system/clocksource/clocksource0/current_clocksource")));
    checks
}

/// Measures what takes a moment, and is only told to who asks.
pub(super) async fn measure(store: &Path) -> Vec<Check> {
    let mut checks = Vec::new();
    // What is to be made there may not be there yet.
    if let Some(dir) = store.ancestors().find(|dir| dir.is_dir()).map(Path::to_owned)
        && let Ok(Ok(took)) = tokio::task::spawn_blocking(move || sync_time(&dir)).await
    {
        checks.push(disk(store, took));
    }
    checks.extend(nested(&read("/proc/cpuinfo"), Path::new("/dev/kvm").exists()));
    checks
}

/// Judges how long a write takes until it is on the store's disk.
fn disk(store: &Path, took: Duration) -> Check {
    const NAME: &str = "disk";
    let millis = took.as_secs_f64() * 1000.0;
    let found = format!("a synchronous write to {} takes {millis:.1} ms", store.display());
    match took > SLOW_DISK {
        false => good(NAME, found),
        true => poor(
            NAME,
            found + ": managers wait for every write, so joins and deployments are slow",
            "export SKEP_HOME=DIRECTORY  # on a solid-state disk; or try again when this host is less busy",
        ),
    }
}

/// Judges whether guests would run in a guest, by /proc/cpuinfo; none where they do not.
fn nested(cpuinfo: &str, has_kvm: bool) -> Option<Check> {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let is_guest = flags.split_whitespace().any(|flag| flag == "hypervisor");
    (is_guest && has_kvm).then(|| {
        poor(
            "nested",
            "this host is a virtual machine, so nodes may be several times slower than on hardware",
            "skep doctor --try-vm  # measures it; if commands time out, use --timeout 5m",
        )
    })
}

fn read(file: &str) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

fn poor(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check { name, verdict: Verdict::Warning, found: found.into(), remedy: remedy.into() }
}

/// Judges whether nodes find names outside of the cluster; `own` are the servers that serve this host alone.
fn dns(servers: &[Ipv4Addr], own: &[String]) -> Check {
    if !servers.is_empty() {
        let servers: Vec<_> = servers.iter().map(Ipv4Addr::to_string).collect();
        return good(DNS, servers.join(", "));
    }
    let found = match own {
        [] => "this host has none, so nodes resolve no names outside of the cluster".to_owned(),
        own => format!(
            "nodes cannot reach {}, so they resolve no names outside of the cluster",
            own.join(", ")
        ),
    };
    let remedy = "add a server with an IPv4 address that others reach to /etc/resolv.conf: nameserver ADDRESS";
    poor(DNS, found, remedy)
}

/// Judges whether machines outlive a logout.
fn logout(lasting: Lasting) -> Check {
    match lasting {
        Lasting::Host => good(LOGOUT, "machines keep running after you log out"),
        Lasting::LastLogout => {
            let found = "machines are killed when you log out of your last session";
            poor(LOGOUT, found, "loginctl enable-linger")
        }
        Lasting::Session => {
            let found = "machines are killed when you log out of this session";
            poor(LOGOUT, found, "loginctl enable-linger")
        }
    }
}

/// Judges whether the QEMUs of root can be users of their own.
fn isolation(has_users: bool) -> Check {
    if has_users {
        return good(ISOLATION, "each machine's QEMU runs as a separate user");
    }
    let (first, last) = MACHINE_USERS;
    let found = format!(
        "QEMU runs as root, because this container lacks the user IDs {first} to {last}: a guest that breaks out of \
         QEMU controls this container"
    );
    let remedy = "run skep on the host, or map all user and group IDs into the container (see: cat /proc/self/uid_map)";
    poor(ISOLATION, found, remedy)
}

/// Judges whether the users of machines are given to somebody else, by the lines NAME:FIRST:COUNT of subuid(5).
fn user_numbers(files: &[String]) -> Check {
    const NAME: &str = "user IDs";
    let (first, last) = (u64::from(MACHINE_USERS.0), u64::from(MACHINE_USERS.1));
    let taken = files.iter().flat_map(|text| text.lines()).find(|line| {
        let mut fields = line.split(':').skip(1).map(|field| field.trim().parse::<u64>());
        let (Some(Ok(from)), Some(Ok(count))) = (fields.next(), fields.next()) else {
            return false;
        };
        from <= last && from.saturating_add(count) > first
    });
    match taken {
        None => good(NAME, "no other user has the IDs of machines"),
        Some(line) => poor(
            NAME,
            format!(
                "/etc/subuid or /etc/subgid assigns the IDs of machines to another user: {line}"
            ),
            format!("assign IDs outside {first} to {last} to that user"),
        ),
    }
}

/// Checks whether programs behind unshare(1) have the rights that an image is built with.
async fn behind_unshare() -> Option<Check> {
    let look = Cmd::new("cat").arg("/proc/self/status").contained_root();
    // Whether it runs at all is another check's matter.
    let inside = look.run().await.ok()?.text();
    Some(capabilities(effective(&read("/proc/self/status"))?, effective(&inside)?, is_root()))
}

/// Returns the effective capabilities in a process's status (`proc_pid_status(5)`).
fn effective(status: &str) -> Option<u64> {
    u64::from_str_radix(skep_sys::value_of(status, "CapEff")?, 16).ok()
}

/// Judges the capabilities of a program behind unshare(1) by our own; an ordinary user gets all in a namespace of users.
fn capabilities(own: u64, inside: u64, root: bool) -> Check {
    const NAME: &str = "unshare";
    let needed = if root { own & NEEDED } else { NEEDED };
    if inside & needed == needed {
        return good(NAME, "programs keep their capabilities under it");
    }
    let profile = "/etc/apparmor.d/unshare-userns-restrict";
    let found = format!(
        "programs under unshare(1) keep only the capabilities {inside:#x}, so skep cannot build images or test \
         KVM; the AppArmor profile {profile} causes this"
    );
    let remedy = format!(
        "sudo ln -s {profile} /etc/apparmor.d/disable/ && sudo apparmor_parser -R {profile}"
    );
    poor(NAME, found, remedy)
}

/// Judges a file system by its number; none if there is nothing to say.
fn place(what: &str, dir: &Path, number: u64) -> Option<Check> {
    let variable = if what == "store" { "SKEP_HOME" } else { "XDG_CACHE_HOME" };
    let remedy = format!("export {variable}=DIRECTORY  # on a local disk, before the first up");
    if let Some((_, kind)) = WITHOUT_MODES.iter().find(|(known, _)| *known == number) {
        let found = format!(
            "the {what} {} is on {kind}, which keeps no modes and owners of files: chmod has no effect there, and keys \
             would be readable by all",
            dir.display()
        );
        return Some(bad("file system", found, remedy));
    }
    let (_, kind) = POOR_FILE_SYSTEMS.iter().find(|(known, _)| *known == number)?;
    let found = format!(
        "the {what} {} is on {kind}: node disks are slow there, and locks or file owners may not work",
        dir.display()
    );
    Some(poor("file system", found, remedy))
}

/// Judges the host's clock source; none where there is none.
fn clock(source: &str) -> Option<Check> {
    const NAME: &str = "clock";
    let source = source.trim();
    match source {
        "" => None,
        source if QUICK_CLOCKS.contains(&source) => Some(good(NAME, source)),
        source => Some(poor(
            NAME,
            format!(
                "the clock source is {source}: reading the time is a slow system call, here and in guests"
            ),
            "dmesg | grep -i -e tsc -e clocksource  # shows why the kernel does not use the CPU's time stamp counter",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_servers_that_nodes_do_not_reach_are_named() {
        let check = dns(&["192.0.2.1".parse().unwrap()], &[]);
        assert_eq!((check.verdict, check.found.as_str()), (Verdict::Ok, "192.0.2.1"));
        let check = dns(&[], &["fd00::1".to_owned(), "127.0.0.11".to_owned()]);
        assert!(check.is_said_by_up() && check.found.contains("fd00::1, 127.0.0.11"), "{check:?}");
        assert!(dns(&[], &[]).found.starts_with("this host has none"));
    }

    #[test]
    fn who_is_logged_out_is_told_what_keeps_machines() {
        assert_eq!(logout(Lasting::Host).verdict, Verdict::Ok);
        for lasting in [Lasting::LastLogout, Lasting::Session] {
            let check = logout(lasting);
            assert_eq!(check.remedy, "loginctl enable-linger");
            assert!(check.verdict == Verdict::Warning && check.is_said_by_up(), "{check:?}");
        }
    }

    #[test]
    fn a_container_without_machines_users_is_announced() {
        assert_eq!(isolation(true).verdict, Verdict::Ok);
        let check = isolation(false);
        assert!(check.verdict == Verdict::Warning && check.is_said_by_up(), "{check:?}");
        assert!(check.found.contains("1879048192 to 1895825407"), "{}", check.found);
    }

    #[test]
    fn numbers_that_are_given_to_others_are_found() {
        let judged = |text: &str| user_numbers(&[String::new(), text.to_owned()]).verdict;
        assert_eq!(judged("# none\nalice:100000:65536\nbob:1895825408:65536\n"), Verdict::Ok);
        assert_eq!(judged("alice:1879000000:65536\n"), Verdict::Warning);
        assert_eq!(judged("alice:100000:4294867295\n"), Verdict::Warning);
        assert_eq!(judged("alice:1879048191:1\nbob:x:y"), Verdict::Ok);
    }

    #[test]
    fn what_is_measured_is_judged() {
        let dir = Path::new("/srv/skep");
        assert_eq!(disk(dir, Duration::from_millis(3)).verdict, Verdict::Ok);
        let slow = disk(dir, Duration::from_millis(35));
        assert!(slow.verdict == Verdict::Warning && slow.found.contains("35.0 ms"), "{slow:?}");
        let cpus = "processor: 0\nflags\t\t: fpu vmx hypervisor lahf_lm\n";
        assert_eq!(nested(cpus, true).unwrap().verdict, Verdict::Warning);
        assert_eq!(nested(cpus, false), None, "emulation is as slow anywhere");
        assert_eq!(nested("flags\t\t: fpu vmx\n", true), None);
    }

    #[test]
    fn rights_that_are_lost_behind_unshare_are_found() {
        let all = 0x1ff_ffff_ffff;
        assert_eq!(capabilities(all, all, true).verdict, Verdict::Ok);
        assert_eq!(capabilities(all, 0, true).verdict, Verdict::Warning);
        assert_eq!(capabilities(0, all, false).verdict, Verdict::Ok);
        assert_eq!(capabilities(0, 0, false).verdict, Verdict::Warning);
        // A container's root may have few; unshare takes none of them away.
        assert_eq!(capabilities(0xa804_25fb & !NEEDED, 0, true).verdict, Verdict::Ok);
        assert_eq!(effective("CapPrm:\t0\nCapEff:\t000001ffffffffff\n"), Some(all));
    }

    #[test]
    fn places_for_disks_and_clocks_are_judged() {
        let dir = Path::new("/srv/skep");
        assert_eq!(place("cache", dir, 0xef53), None, "ext4");
        let nfs = place("store", dir, 0x6969).unwrap();
        assert!(nfs.found.contains("NFS") && nfs.remedy.contains("SKEP_HOME="), "{nfs:?}");
        for number in [0x4d44, 0x2011_bab0, 0x5346_544e, 0x7366_746e] {
            let fat = place("cache", dir, number).unwrap();
            assert_eq!(fat.verdict, Verdict::Failed, "{fat:?}");
            assert!(fat.found.contains("chmod has no effect"), "{fat:?}");
            assert!(fat.remedy.starts_with("export XDG_CACHE_HOME="), "{fat:?}");
        }
        assert_eq!(clock("tsc\n").unwrap().verdict, Verdict::Ok);
        assert_eq!(clock("hpet\n").unwrap().verdict, Verdict::Warning);
        assert_eq!(clock(""), None);
    }
}
