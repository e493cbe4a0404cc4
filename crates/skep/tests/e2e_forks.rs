//! Nodes that are copies of one warm machine are as different as machines of their own, and go on
//! as such when they boot again.

use std::collections::BTreeSet;

use skep_testkit::clock;
use skep_testkit::home::{Home, finish};
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
    home.run("up five -n 5 --no-verify");
    assert_eq!(home.each_node("five", "swarm"), ["ready"; 5]);

    let told: Vec<_> = (0..5).map(|index| identity(&home, index)).collect();
    for (line, (what, _)) in told[0].iter().enumerate() {
        let values: BTreeSet<_> = told.iter().map(|lines| &lines[line].1).collect();
        match what.as_str() {
            // Read by the engine when it starts; the next start gives each its own.
            "engine-id" => assert_eq!(values.len(), 1, "{what}: {values:?}"),
            "=hosts" => assert!(values.iter().all(|it| it.starts_with("127.0.0.1 localhost 10."))),
            "=route" => assert_eq!(values.len(), 1, "{what}: {values:?}"),
            "=strangers" | "=template-log" => assert_eq!(values, [&"0".to_owned()].into()),
            _ => assert_eq!(values.len(), 5, "{what}: {values:?}"),
        }
    }
    for index in 0..5 {
        let dir = home.cluster("five").join(format!("machines/node{index}"));
        let wrong_by = clock::wrong_by(&dir);
        assert!(wrong_by.as_millis() < 50, "the clock of node{index} is wrong by {wrong_by:?}");
    }

    // What boots its own disk is the same member, with an engine of its own.
    let ids = |lines: &[Vec<(String, String)>], what: &str| -> Vec<String> {
        lines.iter().map(|lines| value(lines, what).to_owned()).collect()
    };
    home.run("node restart node3 node4");
    let booted: Vec<_> = (3..5).map(|index| identity(&home, index)).collect();
    for same in ["machine-id", "mac-eth0", "address", "host-key", "certificate", "swarm-id"] {
        assert_eq!(ids(&booted, same), ids(&told[3..], same), "{same}");
    }
    let engines: BTreeSet<_> = ids(&booted, "engine-id").into_iter().collect();
    assert_eq!(engines.len(), 2, "{engines:?}");
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
