//! `--dry-run`: a diff for people, the plan for programs, and nothing touched.

use std::fs;

use serde_json::Value;
use skep_core::model::Size;
use skep_testkit::home::{Home, record};
use skep_testkit::records::{put_cluster, put_cluster_with};

const SKEP: &str = env!("CARGO_BIN_EXE_skep");

const WANTED: &str = "\
name: demo
managers: 1
workers: 2
subnet: 10.5.0.0/24
nodes:
  node1: {labels: {disk: fast}, memory: 2GiB}
ports: [8080]
hostnames: [shop.example.org]
images: []
context: false
";

/// Returns a home with a cluster file.
fn home() -> (Home, String) {
    let home = Home::new(SKEP);
    let file = home.path().join("demo.yaml");
    fs::write(&file, WANTED).unwrap();
    let up = format!("up -f {} --dry-run", file.display());
    (home, up)
}

#[test]
fn a_dry_run_is_a_diff() {
    let (home, up) = home();
    let mut text = String::new();
    record(&mut text, "up -f demo.yaml --dry-run", &home.try_run(&up), &home);
    put_cluster_with(&home, |record| {
        record.nodes[1].labels.insert("disk".into(), "slow".into());
        record.nodes[1].labels.insert("old".into(), "1".into());
        skep_core::fixtures::shape(&mut record.nodes[1]).cpus = 2;
        record.access.ports = vec![80];
        record.access.no_context = true;
    });
    for node in ["node0", "node1"] {
        fs::write(home.cluster("demo").join("machines").join(node).join("disk.qcow2"), "").unwrap();
    }
    let before = fs::read(home.cluster("demo").join("cluster.json")).unwrap();
    record(&mut text, "up -f demo.yaml --dry-run", &home.try_run(&up), &home);
    for line in [
        "node add --dry-run --memory 2GiB --label disk=fast",
        "node rm node1 --force --dry-run",
        "down --dry-run",
        "down none --dry-run",
    ] {
        record(&mut text, line, &home.try_run(line), &home);
    }
    insta::assert_snapshot!(text);
    assert_eq!(fs::read(home.cluster("demo").join("cluster.json")).unwrap(), before);
}

#[test]
fn verbose_adds_the_steps() {
    let (home, up) = home();
    let verbose = home.run(&format!("{up} -v"));
    let brief = home.run(&up);
    let steps = verbose.strip_prefix(&brief).unwrap();
    assert!(steps.starts_with("\n  1. record cluster demo with subnet 10.5.0.0/24\n"), "{steps}");
}

#[test]
fn the_plan_is_there_for_programs() {
    let (home, up) = home();
    put_cluster(&home);
    let text = home.run(&format!("{up} -o json"));
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["format"], 1);
    let changes = document["changes"].as_array().unwrap();
    let added = changes.iter().find(|it| it["name"] == "node2").unwrap();
    assert_eq!(added["change"], "add");
    assert_eq!(added["kind"], "node");
    assert_eq!(added["text"], "+ node2  worker, 1 CPU, 1 GiB memory, 20 GiB disk");
    let steps = document["steps"].as_array().unwrap();
    // Every step comes after those it needs.
    for (index, step) in steps.iter().enumerate() {
        assert_eq!(step["number"], index + 1);
        let after = step["after"].as_array().unwrap().iter();
        assert!(after.clone().all(|need| need.as_u64().unwrap() <= index as u64), "{step}");
    }
}

#[test]
fn a_size_is_shown_with_the_unit_that_fits() {
    let home = Home::new(SKEP);
    put_cluster_with(&home, |record| {
        skep_core::fixtures::shape(&mut record.nodes[1]).memory = Size::mib(1536)
    });
    let said = home.run("down --dry-run");
    assert!(said.contains("- node1  worker, 1 CPU, 1536 MiB memory, 20 GiB disk"), "{said}");
}
