//! The example of an ESGF data centre: fourteen services on six nodes, each in its place, every port
//! through every node, and what becomes of them when a node is drained.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use skep_testkit::home::{Home, eventually, fetch, finish};
use skep_testkit::host::can_run_machines;
use skep_testkit::traces::Traces;

const SKEP: &str = env!("CARGO_BIN_EXE_skep");
const LIMIT: Duration = Duration::from_secs(60);

/// Every published port, and the service that answers there.
const PORTS: [(u16, &str); 17] = [
    (80, "proxy"),
    (443, "proxy"),
    (5000, "auth"),
    (5432, "postgres"),
    (8000, "cog"),
    (8080, "visualizer"),
    (8081, "index-node"),
    (8082, "data-node"),
    (8083, "tds"),
    (8084, "idp-node"),
    (8085, "slcs"),
    (8444, "idp-node"),
    (8445, "index-node"),
    (8446, "data-node"),
    (8447, "publisher"),
    (8448, "tds"),
    (8983, "solr"),
];

#[test]
fn a_data_centre_comes_up_with_one_command() {
    if !can_run_machines() {
        return;
    }
    let host = Traces::look();
    let home = Home::new(SKEP);
    let secrets = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/esgf/run");
    let mut run = Command::new(script);
    home.set_env(&mut run);
    let said = finish(run.env("ESGF_SECRETS", secrets.path()));
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
    assert!(said.stderr.contains("stack esgf: 14 services have converged"), "{}", said.stderr);

    for node in ["front", "db", "index", "idp", "solr", "data"] {
        let name = format!("{node}.esgf.example");
        for (port, service) in PORTS {
            let page = eventually("a page", LIMIT, || fetch(&name, port));
            assert_eq!(page.trim(), format!("esgf_{service}"), "{name}:{port}");
        }
    }
    a_drained_node_gives_its_services_away(&home);

    let said = home.try_run("stack rm esgf");
    assert!(said.code == 0 && said.stderr.contains("is removed from all nodes"), "{}", said.stderr);
    assert_eq!(home.run("docker --node node5 -- ps -aq"), "");
    home.run("down esgf -y");
    host.assert_unchanged();
}

/// Returns the node on which a service has its task.
fn node_of(home: &Home, service: &str) -> Option<String> {
    let tasks: Value = serde_json::from_str(&home.run("stack ps esgf -o json")).unwrap();
    let runs = |task: &&Value| {
        task["service"] == service && task["state"] == "running" && task["wanted"] == "running"
    };
    tasks["tasks"].as_array()?.iter().find(runs)?["node"].as_str().map(str::to_owned)
}

fn a_drained_node_gives_its_services_away(home: &Home) {
    // The dashboard may be on any worker; the others of that node only there.
    let node = node_of(home, "esgf_dashboard").expect("it runs");
    let said = home.try_run(&format!("node drain {node}"));
    assert_eq!(said.code, 0, "{}", said.stderr);
    let refused = "only for node.labels.";
    assert!(said.stderr.contains(refused), "{}", said.stderr);
    assert!(said.stderr.contains(&format!("{node} is drained")), "{}", said.stderr);
    let other = eventually("another node", LIMIT, || node_of(home, "esgf_dashboard"));
    assert_ne!(other, node, "it moved");
}
