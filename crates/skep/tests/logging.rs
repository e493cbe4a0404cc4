//! The log for debugging, as users meet it. No machine is started here.

use std::fs;
use std::path::Path;

use skep_testkit::home::{Home, finish};
use skep_testkit::host::{in_namespaces, is_root, skip};
use skep_testkit::records::put_cluster;

const SKEP: &str = env!("CARGO_BIN_EXE_skep");

/// Is set in namespaces of this test's own: bridges and rules are made there.
const INSIDE: &str = "SKEP_TEST_LOGGING";

#[test]
fn a_command_that_fails_names_its_log_which_says_what_was_run() {
    if !is_root() {
        return skip("only root can make networks");
    }
    if std::env::var_os(INSIDE).is_none() {
        let test = "a_command_that_fails_names_its_log_which_says_what_was_run";
        assert!(in_namespaces(test, (INSIDE, "1")).status().unwrap().success());
        return;
    }
    let home = Home::new(SKEP);
    put_cluster(&home);
    let log = home.path().join("logs/demo.log");
    // Only what changes a cluster is logged.
    home.try_run("status demo");
    assert!(!log.exists());

    // Where the cache would be there is a file, so there is no image and none can be made.
    fs::write(home.path().join("cache"), "").unwrap();
    let mut start = home.command(["start", "demo"]);
    let said = finish(start.env("XDG_CACHE_HOME", home.path().join("cache")));
    assert_ne!(said.code, 0, "it has no image: {}{}", said.stdout, said.stderr);
    let hint = format!("\n  log: {}\n", log.display());
    assert!(said.stderr.ends_with(&hint), "{}", said.stderr);
    let text = fs::read_to_string(&log).unwrap();
    for wanted in [
        // What came before the cluster was known, each step, each program and how all of it ended.
        " start demo\n",
        "begin create bridge skep-demo",
        "done after 0.",
        "run nft -f -\n",
        "exit status: 0 after 0.",
        "failed after 0.",
        "exit code ",
    ] {
        assert!(text.contains(wanted), "no {wanted}: {text}");
    }
    assert_eq!(fs::metadata(&log).unwrap().len(), text.len() as u64);

    let said = home.try_run("node add node1 --label DB_PASSWORD=hunter2 --cluster demo");
    assert_ne!(said.code, 0, "{}", said.stdout);
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("--label DB_PASSWORD=[redacted]"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");

    let bundle = home.path().join("bundle.tar.gz");
    home.run(&format!("support-bundle demo --output {}", bundle.display()));
    assert!(read_from(&bundle, "skep.log").contains("begin create bridge skep-demo"));

    home.run("down demo -y");
    assert!(!log.parent().unwrap().exists(), "the log of a cluster goes with it");
}

fn read_from(bundle: &Path, name: &str) -> String {
    let mut tar = std::process::Command::new("tar");
    tar.arg("-xzOf").arg(bundle).args(["--wildcards", &format!("*/{name}")]);
    let output = tar.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn external_commands_are_printed_if_asked_for() {
    let home = Home::new(SKEP);
    put_cluster(&home);
    let plain = home.try_run("status demo");
    let said = home.try_run("status demo --debug");
    assert_eq!(said.stdout, plain.stdout);
    assert!(
        said.stderr.contains("run ip -json") && said.stderr.contains(" after 0."),
        "{}",
        said.stderr
    );
    assert!(!plain.stderr.contains("run ip"), "{}", plain.stderr);

    let with = |value: &str| {
        let mut command = home.command(["status", "demo"]);
        finish(command.env("SKEP_LOG", value))
    };
    assert!(with("skep::command=debug").stderr.contains("run ip -json"));
    assert_eq!(with("error").stderr, plain.stderr);
    // Empty is as good as not set.
    assert_eq!(with("").stderr, plain.stderr);
    let wrong = with("skep=loudly");
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
    assert!(
        wrong.stderr.contains("SKEP_LOG=skep=loudly")
            && wrong.stderr.contains("try: SKEP_LOG=debug"),
        "{}",
        wrong.stderr
    );
}
