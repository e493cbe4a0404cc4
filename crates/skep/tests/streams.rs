//! Outputs that are closed, full or without a reader: nothing panics, nothing stops in the midst, and the exit code says
//! what became of it.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, PipeWriter, pipe};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use skep::cli::Detail;
use skep::render::progress::Progress;
use skep_core::model::ClusterSpec;
use skep_core::observed::MachineState;
use skep_core::plan::{Birth, UpOptions, Verify, plan_up};
use skep_ops::converge::OnFailure;
use skep_testkit::fakes::FakeHost;
use skep_testkit::home::Home;

const SKEP: &str = env!("CARGO_BIN_EXE_skep");

/// Commands that print something on standard output and end well.
const PRINT: [&str; 7] =
    ["schema", "ls", "ls -o json", "completions bash", "--help", "up --help", "--version"];

/// Returns an end of a pipe that nobody reads.
fn unread() -> PipeWriter {
    let (_, writer) = pipe().unwrap();
    writer
}

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

fn ended(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.stdin(Stdio::null()).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_reader_that_ends_early_ends_a_list_without_a_word() {
    let home = Home::new(SKEP);
    for line in PRINT {
        let mut command = home.command(line.split(' '));
        assert_eq!(ended(command.stdout(unread())), (Some(141), String::new()), "{line}");
    }
}

/// It would print into the void for ever.
#[test]
fn a_watch_ends_with_its_reader() {
    let home = Home::new(SKEP);
    skep_testkit::records::put_cluster(&home);
    let mut watch = home.command(["status", "demo", "--watch"]);
    let (code, said) = ended(watch.stdout(unread()));
    assert_eq!((code, said.as_str()), (Some(1), ""), "not all nodes are Ready");
}

#[test]
fn a_log_that_is_followed_ends_with_its_reader_or_an_interrupt() {
    let home = Home::new(SKEP);
    skep_testkit::records::put_cluster(&home);
    let console = home.cluster("demo").join("machines/node0/console.log");
    std::fs::write(console, "the guest's words\n").unwrap();
    let follow = || home.command(["logs", "-f", "node0"]);
    assert_eq!(ended(follow().stdout(unread())).0, Some(141));

    let mut command = follow();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "the guest's words\n");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(!said.contains("skep down"), "nothing is left half done: {said}");
}

#[test]
fn a_full_disk_is_an_error() {
    let home = Home::new(SKEP);
    for line in PRINT {
        let (code, said) = ended(home.command(line.split(' ')).stdout(full()));
        let wanted = "error: cannot write to standard output: No space left on device";
        assert!(code == Some(1) && said.starts_with(wanted), "{line}: {code:?} {said}");
        assert_eq!(said.lines().count(), 1, "{line}: {said}");
    }
}

#[test]
fn what_fails_has_its_own_code_whatever_becomes_of_the_outputs() {
    let home = Home::new(SKEP);
    for (line, code) in [("status nosuch", 2), ("up -n 0", 2), ("nosuch", 2), ("ls", 0)] {
        let run = |out: Stdio, err: Stdio| {
            let mut command = home.command(line.split(' '));
            command.stdin(Stdio::null()).stdout(out).stderr(err).status().unwrap().code()
        };
        assert_eq!(run(Stdio::null(), unread().into()), Some(code), "{line} 2>(no reader)");
        assert_eq!(run(Stdio::null(), full()), Some(code), "{line} 2>/dev/full");
        if code != 0 {
            assert_eq!(run(unread().into(), unread().into()), Some(code), "{line}: no reader");
        }
        for closed in [">&-", "2>&-", ">&- 2>&-", ">&- 2>&- <&-"] {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("exec \"$SKEP\" {line} {closed}")]);
            home.set_env(&mut shell);
            let (ended, said) = ended(&mut shell);
            assert!(ended == Some(code) && !said.contains("panicked"), "{line} {closed}: {said}");
        }
    }
}

#[test]
fn docker_machine_has_the_same_rule() {
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("docker-machine");
    symlink(SKEP, &program).unwrap();
    for line in ["ls", "--help", "create --help", "version"] {
        let run = |out: Stdio| {
            let mut command = Command::new(&program);
            command.args(line.split(' ')).env("HOME", place.path()).env("SKEP_HOME", place.path());
            ended(command.env_remove("MACHINE_STORAGE_PATH").stdout(out))
        };
        assert_eq!(run(unread().into()), (Some(141), String::new()), "{line}");
        let (code, said) = run(full());
        assert!(code == Some(1) && said.contains("cannot write"), "{line}: {code:?} {said}");
        assert_eq!(run(Stdio::null()).0, Some(0), "{line}");
    }
}

/// Brings a cluster up on a host in memory and writes down what came of it; this test runs itself again for that,
/// without a reader of its progress.
#[test]
fn an_up_goes_on_without_a_reader() {
    if let Ok(result) = std::env::var("SKEP_TEST_UP") {
        let detail = if result.ends_with("steps") { Detail::Steps } else { Detail::Phases };
        return bring_up(detail, Path::new(&result));
    }
    let place = tempfile::tempdir().unwrap();
    for name in ["phases", "steps"] {
        let result = place.path().join(name);
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "an_up_goes_on_without_a_reader", "--nocapture"]);
        again.env("SKEP_TEST_UP", &result).stdout(Stdio::null()).stderr(unread());
        assert!(again.status().unwrap().success(), "{name}");
        assert_eq!(std::fs::read_to_string(&result).unwrap(), "3 of 3 run", "{name}");
    }
}

fn bring_up(detail: Detail, result: &Path) {
    let spec = ClusterSpec::of_machines("demo".parse().unwrap(), 1, 2);
    let options = UpOptions { birth: Birth::Boot, wait: true, verify: Verify::Nothing };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (host, progress) = (FakeHost::new(), Progress::new(detail, false));
        let plan = plan_up(&spec, &host.observe("demo").await.unwrap(), options).unwrap();
        let events = |event| progress.event(event);
        host.execute("demo", &plan, OnFailure::Stop, &events).await.unwrap();
        progress.clear();
        let seen = host.observe("demo").await.unwrap();
        let run = seen.nodes.values().filter(|node| node.machine == MachineState::Running).count();
        std::fs::write(result, format!("{run} of {} run", seen.nodes.len())).unwrap();
    });
}
