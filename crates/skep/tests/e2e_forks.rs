//! Nodes that are copies of templates are as different as machines of their own, and go on as such
//! when they boot again.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use skep_testkit::clock;
use skep_testkit::home::{Home, eventually, finish};
use skep_testkit::host::can_run_machines;
use skep_testkit::traces::Traces;

/// Prints what has to differ between machines, and what has to be a node's own, a line each.
const IDENTITY: &str = r#"
echo "machine-id $(cat /etc/machine-id)"
echo "boot-id $(cat /proc/sys/kernel/random/boot_id)"
echo "random $(head -c 24 /dev/urandom | base64)"
echo "uuid $(cat /proc/sys/kernel/random/uuid)"
for link in eth0 docker0 docker_gwbridge; do
	echo "mac-$link $(cat /sys/class/net/$link/address)"
done
echo "address $(ip -4 -o address show dev eth0 | awk '{print $4}')"
echo "host-key $(cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub)"
echo "tls-key $(sudo cat /etc/docker/tls/server-key.pem | sha256sum)"
echo "certificate $(sudo cat /etc/docker/tls/server.pem | sha256sum)"
echo "swarm-id $(docker info -f '{{.Swarm.NodeID}}')"
echo "engine-id $(docker info -f '{{.ID}}')"
echo "hostname $(hostname)"
echo "=memory $(($(awk '/MemTotal/ {print $2}' /proc/meminfo) >> 17))"
echo "=hosts $(tr '\n' ' ' </etc/hosts)"
echo "=route $(ip route show default)"
echo "=strangers $(ip neighbour | grep -c 192.0.2)"
echo "=template-log $(sudo cat /var/log/*/current | grep -c 192.0.2.2)"
"#;

#[test]
fn copies_of_one_machine_have_nothing_in_common() {
    if !can_run_machines() {
        return;
    }
    let host = Traces::look();
    let home = Home::new(env!("CARGO_BIN_EXE_skep"));
    // One is a copy of another template than the rest.
    let file = home.path().join("five.yaml");
    let text = "{name: five, workers: 4, nodes: {node4: {memory: 768MiB}}}";
    std::fs::write(&file, text).unwrap();
    home.run_args(["up", "-f", file.to_str().unwrap(), "--no-verify"]);
    assert_eq!(home.each_node("five", "swarm"), ["ready"; 5]);

    let told: Vec<_> = (0..5).map(|index| identity(&home, index)).collect();
    for (line, (what, _)) in told[0].iter().enumerate() {
        let each: Vec<_> = told.iter().map(|lines| &lines[line].1).collect();
        let values: BTreeSet<_> = each.iter().copied().collect();
        match what.as_str() {
            // Read by the engine when it starts; the next start gives each its own.
            "engine-id" => {
                let first: BTreeSet<_> = each[..4].iter().collect();
                assert_eq!((first.len(), values.len()), (1, 2), "{what}: {values:?}");
            }
            // In units of 128 MiB, some of which the kernel keeps.
            "=memory" => assert_eq!(each, ["7", "7", "7", "7", "5"]),
            "=hosts" => assert!(values.iter().all(|it| it.starts_with("127.0.0.1 localhost 10."))),
            "=route" => assert_eq!(values.len(), 1, "{what}: {values:?}"),
            "=strangers" | "=template-log" => assert_eq!(values, [&"0".to_owned()].into()),
            _ => assert_eq!(values.len(), 5, "{what}: {values:?}"),
        }
    }
    let machine = |index: usize| home.cluster("five").join(format!("machines/node{index}"));
    for index in 0..5 {
        assert_clock_is_right(&machine(index));
        assert_goes_on_as_kept(&machine(index));
    }
    clocks_are_right_after_a_halt(&home, &machine(2), &machine(3));

    // What boots its own disk is the same member, with an engine of its own.
    let ids = |lines: &[Vec<(String, String)>], what: &str| -> Vec<String> {
        lines.iter().map(|lines| value(lines, what).to_owned()).collect()
    };
    home.run("node restart node3");
    let booted: Vec<_> = (3..4).map(|index| identity(&home, index)).collect();
    for same in ["machine-id", "mac-eth0", "address", "host-key", "certificate", "swarm-id"] {
        assert_eq!(ids(&booted, same), ids(&told[3..4], same), "{same}");
    }
    let engines: BTreeSet<_> = ids(&booted, "engine-id").into_iter().collect();
    assert!(!engines.contains(value(&told[0], "engine-id")));

    // One that joins a running swarm, with an engine of its own at once.
    home.run("node add --unique-engine-ids --no-verify");
    let sixth = identity(&home, 5);
    assert!(!engines.contains(value(&sixth, "engine-id")));
    assert_ne!(value(&sixth, "engine-id"), value(&told[0], "engine-id"));

    // What the swarm uses is not pruned, and is told to be used.
    let cache = home.run("cache ls -o json");
    let cache: serde_json::Value = serde_json::from_str(&cache).unwrap();
    let entries = cache["entries"].as_array().unwrap();
    let used = |kind: &str| entries.iter().any(|it| it["kind"] == kind && it["used"] == true);
    assert!(used("image") && used("template"), "{cache}");

    home.run("down five -y");
    host.assert_unchanged();
}

/// An emulator that went on from its template's has that one's pages, and in each thread no more rights than it.
fn assert_goes_on_as_kept(machine: &Path) {
    let note = std::fs::read_to_string(machine.join("process.json")).unwrap();
    let note: serde_json::Value = serde_json::from_str(&note).unwrap();
    if note["accelerator"] != "tcg" {
        return;
    }
    let process = format!("/proc/{}", note["pid"]);
    let maps = std::fs::read_to_string(format!("{process}/maps")).unwrap();
    assert!(maps.lines().any(|line| line.contains("/templates/") && line.ends_with("/process")));
    let own = std::fs::read_to_string(machine.join("run/qemu.pid")).unwrap();
    assert_eq!(own.trim(), note["pid"].to_string());
    let mut threads = 0;
    for thread in std::fs::read_dir(format!("{process}/task")).unwrap().flatten() {
        // One that has nothing to do any more may end meanwhile.
        let Ok(status) = std::fs::read_to_string(thread.path().join("status")) else { continue };
        for (name, value) in [("CapEff", "0000000000000000"), ("NoNewPrivs", "1"), ("Seccomp", "2")]
        {
            assert!(status.contains(&format!("{name}:\t{value}\n")), "{name}: {status}");
        }
        assert!(!status.contains("Uid:\t0"), "{status}");
        threads += 1;
    }
    assert!(threads >= 4, "{threads}");
    // A worker gives way to managers.
    let stat = std::fs::read_to_string(format!("{process}/stat")).unwrap();
    let nice = stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap();
    let is_first = machine.ends_with("node0");
    assert_eq!(nice, if is_first { "0" } else { "5" }, "{}", machine.display());
}

/// A clock that is wrong stays so: it is asked again as an answer that comes late says little.
fn assert_clock_is_right(machine: &Path) {
    eventually(
        &format!("the right time on {}", machine.display()),
        Duration::from_secs(20),
        || {
            let wrong_by = clock::wrong_by(machine);
            eprintln!("{} is wrong by {wrong_by:?}", machine.display());
            (wrong_by.as_millis() < 50).then_some(())
        },
    );
}

/// One of two that stand still is resumed by skep, the other by somebody else.
fn clocks_are_right_after_a_halt(home: &Home, ours: &Path, others: &Path) {
    for machine in [ours, others] {
        clock::tell(machine, "stop");
    }
    // wait: they stand still for so long, and the swarm does not yet miss them.
    std::thread::sleep(Duration::from_secs(4));
    clock::tell(others, "cont");
    home.run("up five --no-verify");
    // A guest that has just been resumed answers late when it is asked for the time.
    let wrong_by = clock::wrong_by(ours);
    assert!(wrong_by.as_secs() < 1, "{} is wrong by {wrong_by:?}", ours.display());
    for machine in [ours, others] {
        eventually("the right time", Duration::from_secs(60), || {
            (clock::wrong_by(machine).as_millis() < 50).then_some(())
        });
    }
}

/// Returns what a node tells of itself.
fn identity(home: &Home, index: usize) -> Vec<(String, String)> {
    let node = format!("five/node{index}");
    let said = finish(&mut home.command(["ssh", &node, "--", IDENTITY]));
    assert_eq!(said.code, 0, "{}", said.stderr);
    let pair = |line: &str| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
    said.stdout.lines().filter_map(pair).collect()
}

fn value<'a>(lines: &'a [(String, String)], what: &str) -> &'a str {
    &lines.iter().find(|(key, _)| key == what).expect("it was asked for").1
}
