//! The example of the library does what it says, on a real cluster, and leaves nothing.

use std::path::Path;
use std::process::Command;

use skep_testkit::host::can_run_machines;
use skep_testkit::traces::Traces;

/// The image is in every node, for verification.
const WEB: &str = r#"
version: "3.8"
services:
  page:
    image: skep/probe:latest
    entrypoint: [/bin/busybox, sleep, "100000"]
    stop_grace_period: 1s
    deploy: {replicas: 2}
"#;

#[test]
fn the_example_tests_a_swarm_and_leaves_nothing() {
    if !can_run_machines() {
        return;
    }
    let host = Traces::look();
    let dir = tempfile::tempdir().unwrap();
    let compose_file = dir.path().join("web.yaml");
    std::fs::write(&compose_file, WEB).unwrap();
    let run = |store: &str, compose_file: &Path| {
        // Cargo builds examples only for a run of all targets.
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["run", "-q", "--locked", "-p", "skep-ops", "--example", "swarm_test", "--"]);
        cargo.arg(compose_file).env("SKEP_HOME", dir.path().join(store)).output().unwrap()
    };

    let output = run("good", &compose_file);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text, "web_page 2/2\nnode1 Down\nnode1 is back\n");
    host.assert_unchanged();

    // The guard removes the cluster when the rest fails, here as there is no such file.
    let output = run("bad", &dir.path().join("nosuch.yaml"));
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("nosuch.yaml"), "{said}");
    assert!(!dir.path().join("bad/clusters/example").exists());
    host.assert_unchanged();
}
