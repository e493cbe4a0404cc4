//! `skep init` and `skep config`: from a file to start with to what skep understands of it.

use std::fs;

use skep_core::model::TrustedRegistry;
use skep_testkit::home::{Home, record};
use skep_testkit::records::{put_cluster, put_cluster_with};

const SKEP: &str = env!("CARGO_BIN_EXE_skep");

#[test]
fn init_creates_a_file_that_up_accepts_and_overwrites_nothing() {
    let home = Home::new(SKEP);
    let file = home.path().join("skep.yaml");
    let path = file.to_str().unwrap();
    let mut text = String::new();
    for line in [format!("init {path}"), format!("init {path}"), format!("init {path}/below")] {
        let shown = line.replace(&home.path().display().to_string(), "HOME");
        record(&mut text, &shown, &home.try_run(&line), &home);
    }
    insta::assert_snapshot!(text);
    let written = fs::read_to_string(&file).unwrap();
    assert_eq!(home.run("init -"), written);
    let planned = home.run(&format!("up -f {path} --dry-run"));
    assert!(planned.contains("node1"), "{planned}");

    let link = home.path().join("link.yaml");
    std::os::unix::fs::symlink(home.path().join("target"), &link).unwrap();
    assert_eq!(home.try_run(&format!("init {}", link.display())).code, 2);
    assert!(!home.path().join("target").exists(), "it was written through the link");
}

#[test]
fn an_empty_file_is_refused_with_a_way_to_start() {
    let home = Home::new(SKEP);
    let file = home.path().join("skep.yaml");
    fs::write(&file, "# nothing yet\n").unwrap();
    let mut text = String::new();
    for command in ["up", "config"] {
        let said = home.try_run(&format!("{command} -f {}", file.display()));
        record(&mut text, &format!("{command} -f HOME/skep.yaml"), &said, &home);
    }
    insta::assert_snapshot!(text);
}

#[test]
fn config_prints_a_file_with_its_defaults() {
    let home = Home::new(SKEP);
    let file = home.path().join("skep.yaml");
    let short = "x-big: &big {memory: 2GiB}\nnodes: {node1: {<<: *big, labels: {disk: fast}}}\nports: [8080]\n";
    fs::write(&file, short).unwrap();
    let config = |arguments: &str| home.run(&format!("config -f {}{arguments}", file.display()));
    insta::assert_snapshot!(config(""));
    // What is printed is a file that says the same, and JSON is YAML too.
    for output in ["", " -o json"] {
        let again = home.path().join("again.yaml");
        fs::write(&again, config(output)).unwrap();
        assert_eq!(home.run(&format!("config -f {}", again.display())), config(""));
    }
    assert!(config(" other").contains("name: \"other\""));
    fs::write(&file, "nodes: {a: {role: worker}}\nmanagers: 0\nworkers: 0\n").unwrap();
    let said = home.try_run(&format!("config -f {}", file.display()));
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("a swarm needs at least one manager"), "{}", said.stderr);
}

#[test]
fn config_prints_a_cluster_as_it_is_recorded() {
    let home = Home::new(SKEP);
    let none = home.try_run("config");
    assert!(none.stderr.contains("there is no cluster"), "{}", none.stderr);
    put_cluster(&home);
    let recorded = home.run("config demo");
    insta::assert_snapshot!(recorded);
    let file = home.path().join("demo.yaml");
    fs::write(&file, &recorded).unwrap();
    assert_eq!(home.run("config"), recorded);
    let read = home.run(&format!("config -f {}", file.display()));
    let same = recorded.lines().filter(|line| !read.contains(line));
    assert_eq!(same.collect::<Vec<_>>(), Vec::<&str>::new(), "{read}");
}

#[test]
fn config_leaves_registries_with_certificates_to_the_record_and_says_so() {
    let home = Home::new(SKEP);
    put_cluster_with(&home, |record| {
        let ca = Some("-----BEGIN CERTIFICATE-----\n".to_owned());
        record.trusted = Some(vec![TrustedRegistry { at: "hub.example:5000".into(), ca }]);
    });
    let said = home.try_run("config demo");
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(!said.stdout.contains("registries"), "{}", said.stdout);
    assert!(said.stderr.starts_with("note: `registries` is left out"), "{}", said.stderr);
}
