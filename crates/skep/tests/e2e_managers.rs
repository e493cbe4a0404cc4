//! Three managers lose their leader, then the rest is stopped and all is started: it is the same
//! swarm with the same members, certificates and data. At last two of them are lost for ever.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use skep_testkit::home::{Home, eventually};
use skep_testkit::host::can_run_machines;
use skep_testkit::traces::Traces;

const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn three_managers_outlive_their_leader_and_a_stop() {
    if !can_run_machines() {
        return;
    }
    let host = Traces::look();
    let home = Home::new(env!("CARGO_BIN_EXE_skep"));
    home.run("up three --managers 3 --workers 0 --no-verify");
    let leader = leader(&home).expect("a swarm has a leader");
    let before = identity(&home);
    home.run("docker -- config create kept /proc/sys/kernel/ostype");

    home.run(&format!("hosts add three.example --node {leader} --follow"));
    lose_power_while_a_name_follows(&home, &leader);
    let second = eventually("another leader", LIMIT, || {
        let found = self::leader(&home)?;
        (found != leader).then_some(found)
    });
    assert_eq!(home.run("docker -- config ls --format {{.Name}}"), "kept\n");
    // Two of three are a majority; one is none, and is not taken away without a word.
    let said = home.try_run(&format!("node rm {second} -y"));
    assert!(said.code == 1 && said.stderr.contains("no majority"), "{}", said.stderr);

    home.run("stop three");
    home.run("start three");
    assert_eq!(home.each_node("three", "swarm"), ["ready", "ready", "ready"]);
    assert_eq!(identity(&home), before);
    assert_eq!(home.run("docker -- config ls --format {{.Name}}"), "kept\n");

    what_is_left_of_the_managers_goes_on_alone(&home);

    home.run("down three -y");
    host.assert_unchanged();
}

fn what_is_left_of_the_managers_goes_on_alone(home: &Home) {
    let last = leader(home).expect("a swarm has a leader");
    let nodes = home.each_node("three", "name");
    let lost: Vec<_> = nodes.into_iter().filter(|name| *name != last).collect();
    home.run(&format!("hosts add three.example --node {} --follow", lost[0]));
    let lost = lost.join(" ");
    // At once, while the leader still believes that it leads.
    let address = address_of_name(home);
    home.run(&format!("node kill {lost}"));
    assert_ne!(address_of_name(home), address);
    home.run(&format!("node rm --force {lost} -y"));
    home.run(&format!("swarm recover {last} -y"));
    let members = ["docker", "--", "node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"];
    assert_eq!(home.run_args(members), format!("{last} Leader\n"));
    assert_eq!(home.run("docker -- config ls --format {{.Name}}"), "kept\n");
    home.run("node add --manager");
    assert_eq!(home.each_node("three", "swarm"), ["ready", "ready"]);
}

/// Ends a node's machine behind skep's back: who watches lets the name lead to another one.
fn lose_power_while_a_name_follows(home: &Home, node: &str) {
    let address = address_of_name(home);
    let mut watch = home.command(["hosts", "follow"]);
    let mut watch = watch.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    home.cut_power("three", node);
    eventually("the name leads elsewhere", LIMIT, || {
        (address_of_name(home) != address).then_some(())
    });
    watch.kill().unwrap();
    watch.wait().unwrap();
}

/// Returns where the name in this host's file of names leads.
fn address_of_name(home: &Home) -> String {
    let list: serde_json::Value = serde_json::from_str(&home.run("hosts ls -o json")).unwrap();
    let entry = &list["hosts"][0];
    assert_eq!(entry["name"], "three.example", "{list}");
    entry["address"].as_str().unwrap().to_owned()
}

fn leader(home: &Home) -> Option<String> {
    let status = home.status("three");
    let nodes = status["nodes"].as_array()?;
    let leader =
        nodes.iter().find(|node| node["leader"] == true && node["machine"] == "running")?;
    leader["name"].as_str().map(str::to_owned)
}

/// Returns what may not change: the swarm, its members, addresses and certificates.
fn identity(home: &Home) -> BTreeMap<String, String> {
    let status = home.status("three");
    let members =
        home.run_args(["docker", "--", "node", "ls", "--format", "{{.Hostname}} {{.ID}}"]);
    let mut identity = BTreeMap::from([
        ("swarm".to_owned(), status["swarm_id"].to_string()),
        ("members".to_owned(), members),
        ("addresses".to_owned(), home.each_node("three", "address").join(" ")),
    ]);
    for node in home.each_node("three", "name") {
        let own = home.cluster("three").join("machines").join(&node);
        for file in ["server.pem", "ssh_host_ed25519_key.pub"] {
            let text = std::fs::read_to_string(own.join(file)).unwrap();
            identity.insert(format!("{node} {file}"), text);
        }
        let machine_id = home.run(&format!("ssh {node} cat /etc/machine-id"));
        assert!(!identity.values().any(|other| *other == machine_id), "{node} is a copy");
        identity.insert(format!("{node} machine-id"), machine_id);
    }
    identity
}
