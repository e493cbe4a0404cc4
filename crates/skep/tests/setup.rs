//! `skep setup`, for real and in namespaces: what acts as root for ordinary users does what they may have, and
//! nothing else; what was changed is taken back. No machine is started here.

use std::path::Path;
use std::process::Command;

use skep_core::model::{Admits, NetworkRecord};
use skep_core::observed::HostsEntry;
use skep_net::hosts::Names;
use skep_net::network::{Error, HostNetwork, Network};
use skep_net::privileged_helper::HelperNetwork;
use skep_store::Owner;
use skep_testkit::home::Said;
use skep_testkit::host::can_run_machines;
use skep_testkit::users::OwnHost;

const SKEP: &str = env!("CARGO_BIN_EXE_skep");
const HOSTS: &str = "/etc/hosts";
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

#[test]
fn users_have_networks_of_their_own_and_no_others() {
    if !can_run_machines() {
        return;
    }
    OwnHost::tell("users_have_networks_of_their_own_and_no_others", SKEP, true, |host| {
        std::fs::write(FORWARDING, "0").unwrap();
        host.add_user("alice");
        host.add_user("mallory");
        let before = host.files();
        set_up(host);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(networks(host));
        assert_eq!(std::fs::read_to_string(FORWARDING).unwrap(), "0\n");

        let said = well(host.skep("setup --undo --dry-run"));
        assert!(said.contains("would remove  group skep"), "{said}");
        well(host.skep("setup --undo"));
        assert_eq!(host.files(), before, "all is as it was");
        assert_eq!(well(host.skep("setup --undo")), "nothing to do\n");
    });
}

#[test]
fn names_go_with_the_set_up_that_allowed_them() {
    if !can_run_machines() {
        return;
    }
    OwnHost::tell("names_go_with_the_set_up_that_allowed_them", SKEP, true, |host| {
        let names = || std::fs::read_to_string(HOSTS).unwrap();
        host.add_user("alice");
        let before = (host.files(), names());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let subnet = "10.193.0.0/24".parse().unwrap();
        let network = NetworkRecord { subnet, bridge: "skep-hers".into() };
        let owner =
            Owner { cluster: "hers".parse().unwrap(), store: "/".into(), user: id("alice") };
        let entry = HostsEntry { name: "shop.example".into(), address: network.node_address(0) };
        let write = async |entries: &[HostsEntry]| {
            helper_of("alice").write(Path::new(HOSTS), &owner, entries).await
        };
        let make = async || helper_of("alice").ensure_bridge(&network, &owner).await.unwrap();

        well(host.skep("setup --user alice"));
        runtime.block_on(async {
            make().await;
            let refused = skep_sys::chain(&write(std::slice::from_ref(&entry)).await.unwrap_err());
            assert!(refused.contains("may not add names to /etc/hosts"), "{refused}");
        });
        assert_eq!(names(), before.1);
        well(host.skep("setup --hosts"));
        runtime.block_on(write(std::slice::from_ref(&entry))).unwrap();
        assert!(names().contains("shop.example"));
        // They go with the network that they lead to.
        runtime.block_on(helper_of("alice").remove_link("skep-hers")).unwrap();
        assert_eq!(names(), before.1);

        runtime.block_on(async {
            make().await;
            write(std::slice::from_ref(&entry)).await.unwrap();
        });
        // While the network is in use, nothing is undone, names included.
        let said = host.skep("setup --undo");
        assert_eq!(said.code, 1, "{said:?}");
        assert!(names().contains("shop.example"));
        well(host.skep("setup --undo --force"));
        assert_eq!((host.files(), names()), before, "all is as it was");
        assert!(!Path::new("/sys/class/net/skep-hers").exists());
    });
}

/// A sudo that refuses settings which it does not know, as sudo-rs does, and a kernel whose AppArmor wants a profile of
/// whoever has namespaces of users. Neither is on every host, so their programs are stand-ins.
#[test]
fn sudo_and_apparmor_get_what_they_take() {
    if !can_run_machines() {
        return;
    }
    OwnHost::tell("sudo_and_apparmor_get_what_they_take", SKEP, true, |host| {
        host.add_user("alice");
        std::fs::create_dir_all("/etc/apparmor.d").unwrap();
        let log = Path::new("/run/apparmor_parser.log");
        let parser = "/usr/local/sbin/apparmor_parser";
        stand_in(parser, &format!("echo \"$*\" >> {}", log.display()));
        let strict = "for file; do :; done\n\
                      if grep -qE 'requiretty|log_(in|out)put' \"$file\"; then\n\
                      echo 'syntax error' >&2; exit 1; fi";
        stand_in("/run/visudo", strict);
        let visudo = skep_sys::find_program("visudo", "/usr/sbin:/sbin".as_ref()).unwrap();
        run("mount", &["--bind", "/run/visudo", visudo.to_str().unwrap()]);
        let boot = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap();
        run("mount", &["-t", "tmpfs", "none", "/proc/sys/kernel"]);
        let kernel = Path::new("/proc/sys/kernel");
        std::fs::create_dir(kernel.join("random")).unwrap();
        std::fs::write(kernel.join("random/boot_id"), boot).unwrap();
        let switch = kernel.join("apparmor_restrict_unprivileged_userns");
        let before = host.files();

        std::fs::write(&switch, "0\n").unwrap();
        let would = well(host.skep("setup --user alice --dry-run"));
        assert!(!would.contains("apparmor"), "{would}");
        std::fs::write(&switch, "1\n").unwrap();
        let made = well(host.skep("setup --user alice"));
        let skep = OwnHost::home("skep").display().to_string();
        let part = format!("/etc/apparmor.d/skep, which lets {skep} have namespaces of users");
        assert!(made.contains(&part), "{made}");
        let profile = std::fs::read_to_string("/etc/apparmor.d/skep").unwrap();
        let line = format!("profile skep \"{skep}\" flags=(unconfined)");
        assert!(profile.contains(&line), "{profile}");
        let said = std::fs::read_to_string(log).unwrap();
        let lines: Vec<_> = said.lines().collect();
        let draft = "--skip-kernel-load --skip-cache /var/lib/skep-net/apparmor";
        assert_eq!(lines, [draft, "--replace /etc/apparmor.d/skep"], "tried before it is loaded");
        let sudoers = std::fs::read_to_string("/etc/sudoers.d/skep").unwrap();
        assert!(!sudoers.contains("requiretty") && sudoers.contains("secure_path="), "{sudoers}");
        assert!(well(host.skep("setup --user alice")).starts_with("nothing to do"));

        // With the host's own sudo it is as good, and one that refuses it has another one written.
        run("umount", &[visudo.to_str().unwrap()]);
        assert!(well(host.skep("setup --user alice")).starts_with("nothing to do"));
        let full = skep_net::setup::render_sudoers(&["!requiretty", "!log_input", "!log_output"]);
        std::fs::write("/etc/sudoers.d/skep", full).unwrap();
        assert!(well(host.skep("setup --user alice")).starts_with("nothing to do"));
        run("mount", &["--bind", "/run/visudo", visudo.to_str().unwrap()]);
        assert!(well(host.skep("setup --user alice")).starts_with("created  /etc/sudoers.d/skep"));
        run("umount", &[visudo.to_str().unwrap()]);

        well(host.skep("setup --undo"));
        let said = std::fs::read_to_string(log).unwrap();
        assert_eq!(said.lines().last(), Some("--remove /etc/apparmor.d/skep"));
        assert!(!Path::new("/etc/apparmor.d/skep").exists());
        assert_eq!(host.files(), before, "all is as it was");
    });
}

fn stand_in(program: &str, script: &str) {
    let path = Path::new(program);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

fn set_up(host: &OwnHost) {
    let said = host.skep_as("alice", "setup");
    assert!(said.code == 3 && said.stderr.contains("try: sudo "), "{said:?}");
    let said = host.skep_as("alice", "up demo");
    assert!(said.code == 3 && said.stderr.contains("skep' setup"), "{said:?}");
    let said = host.skep("setup --user nobody-here");
    assert!(said.code == 2 && said.stderr.contains("no user nobody-here"), "{said:?}");

    // Before it is asked whether she could have such a network.
    let said = host.skep_as("alice", "up demo --net user --peer other --dry-run");
    assert!(said.code == 2 && said.stderr.contains("--net user cannot be peers"), "{said:?}");

    let would = well(host.skep("setup --user alice --dry-run"));
    assert!(would.contains("would create  user alice in group skep"), "{would}");
    let made = well(host.skep("setup --user alice"));
    assert!(made.contains("created  /etc/sudoers.d/skep"), "{made}");
    assert!(well(host.skep("setup --user alice")).starts_with("nothing to do"));

    let said = host.skep_as("alice", "doctor");
    assert!(said.stdout.contains("ok       rights: non-root user"), "{said:?}");
    let said = host.skep_as("mallory", "doctor");
    assert!(said.stdout.contains("failed   rights: mallory is not in group skep"), "{said:?}");
    let words = OwnHost::becoming("alice");
    let sudo = |args: &[&str]| {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(["sudo", "-n"]).args(args).output().unwrap().status.success()
    };
    let program = "/usr/local/libexec/skep-net";
    assert!(!sudo(&[program, "setup"]) && !sudo(&["id"]), "nothing else may be run");
    assert!(!sudo(&[program]), "it needs a request");
    // The path is not the user's choice, or another's program would be root's.
    let mut bare = Command::new(program);
    let said = bare.env("SUDO_UID", "1000").env("PATH", "/tmp:/usr/bin").output().unwrap();
    assert!(String::from_utf8_lossy(&said.stderr).contains("another path"), "{said:?}");
}

async fn networks(host: &OwnHost) {
    let alice = helper_of("alice");
    let mallory = helper_of("mallory");
    assert!(matches!(mallory.hello().await, Err(Error::NoHelper(_))), "who is not in the group");
    well(host.skep("setup --user mallory"));

    let network = |bridge: &str, subnet: &str| NetworkRecord {
        subnet: subnet.parse().unwrap(),
        bridge: bridge.into(),
    };
    let hers = network("skep-hers", "10.193.0.0/24");
    // Whatever a user says of whose it is: sudo knows better.
    let owner =
        |name: &str, user| Owner { cluster: name.parse().unwrap(), store: "/".into(), user };
    let (of_alice, lie) = (owner("hers", id("alice")), owner("hers", 0));
    alice.ensure_bridge(&hers, &lie).await.unwrap();
    alice.ensure_firewall(&hers, &lie, &Admits::default()).await.unwrap();
    let seen = alice.look().await.unwrap();
    assert!(seen.has_bridge(&hers) && seen.has_firewall(&hers));
    assert_eq!(seen.leftovers(&of_alice, None).len(), 2, "it carries her mark");
    assert_eq!(std::fs::read_to_string(FORWARDING).unwrap(), "0\n", "the host is no router");
    let forwards = std::fs::read_to_string("/proc/sys/net/ipv4/conf/skep-hers/forwarding");
    assert_eq!(forwards.unwrap(), "1\n");

    let tap = alice.tap("skt0ac10002", &hers, &of_alice).await.unwrap();
    let there = async |name| HostNetwork::look_around().await.unwrap().has_link(name);
    assert!(there("skt0ac10002").await);
    let again = alice.tap("skt0ac10002", &hers, &of_alice).await;
    assert!(refusal(again).contains("exists already"));
    drop(tap);
    assert!(!there("skt0ac10002").await, "it goes with whoever has it");
    drop(alice.detached_tap().await.unwrap());

    // Of two who choose the same at the same time, one has it and the other is told.
    let same = network("skep-same", "10.193.4.0/24");
    let of_both = [owner("same", id("alice")), owner("same", id("mallory"))];
    let (one, other) = tokio::join!(
        alice.ensure_bridge(&same, &of_both[0]),
        mallory.ensure_bridge(&same, &of_both[1])
    );
    let (winner, lost) = match (one, other) {
        (Ok(()), Err(error)) => (&alice, error),
        (Err(error), Ok(())) => (&mallory, error),
        both => panic!("{both:?}"),
    };
    assert!(matches!(lost, Error::Taken(_)), "{lost}");
    winner.remove_link("skep-same").await.unwrap();

    let of_mallory = owner("hers", id("mallory"));
    assert!(refusal(mallory.remove_link("skep-hers").await).contains("belongs to another"));
    assert!(refusal(mallory.remove_firewall("skep-hers").await).contains("belongs to another"));
    assert!(refusal(mallory.remove_link("lo").await).contains("no name of"));
    let tap = mallory.tap("skt0ac10003", &hers, &of_mallory).await;
    assert!(refusal(tap).contains("belongs to another"));
    let within = network("skep-within", "10.193.0.128/25");
    let made = mallory.ensure_bridge(&within, &of_mallory).await;
    assert!(refusal(made).contains("skep-hers uses"));
    let seen = mallory.look().await.unwrap();
    assert!(!seen.has_firewall(&hers), "others' rules are not shown");
    assert!(seen.facts(None).links.contains("skep-hers"), "and what is taken is");

    let said = host.skep("setup --undo");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("skep-hers: cluster hers of alice"), "{said:?}");
    assert!(said.stderr.contains("sudo -iu alice skep down hers"), "{said:?}");

    alice.remove_link("skep-hers").await.unwrap();
    assert!(refusal(mallory.ensure_bridge(&hers, &of_mallory).await).contains("belongs"));
    alice.remove_firewall("skep-hers").await.unwrap();
    alice.remove_firewall("skep-hers").await.unwrap();
    // What nobody has any more anybody may have.
    mallory.ensure_bridge(&hers, &of_mallory).await.unwrap();
    mallory.remove_link("skep-hers").await.unwrap();
}

fn helper_of(user: &str) -> HelperNetwork {
    let sudo = ["sudo", "-n", "/usr/local/libexec/skep-net"].map(str::to_owned);
    HelperNetwork::through(OwnHost::becoming(user).into_iter().chain(sudo))
}

fn id(user: &str) -> u32 {
    let output = Command::new("id").args(["-u", user]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn refusal<T>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Refused(reason) | Error::Taken(reason)) => reason,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it was done"),
    }
}

fn well(said: Said) -> String {
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
    said.stdout
}
