//! What comes from guests, records and paths reaches a terminal as plain text, whichever way it takes.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Command, Stdio};

use skep::cli::Detail;
use skep::render::progress::Progress;
use skep_core::event::{Event, StepOutline};
use skep_core::model::ClusterSpec;
use skep_core::plan::{Birth, Phase, UpOptions, Verify, plan_up};
use skep_ops::converge::OnFailure;
use skep_testkit::fakes::FakeHost;

/// Sets a terminal's title, clears it, sets a colour with one C1 control, turns the text round.
const HOSTILE: &str = "\x1b]0;owned\x07\x1b[2J\u{9b}31m\u{202e}txt";
const VISIBLE: &str = "\\x1b]0;owned\\x07\\x1b[2J\\u{9b}31m\\u{202e}txt";

/// Runs a command to its end, with both outputs in one, through a pipe or on a terminal.
fn said(command: &mut Command, on_terminal: bool) -> Vec<u8> {
    let words: Vec<String> = [command.get_program()]
        .into_iter()
        .chain(command.get_args())
        .map(|word| skep_sys::shell_quoted(word.to_str().unwrap()))
        .collect();
    let line = format!("{} 2>&1", words.join(" "));
    let mut run = match on_terminal {
        true => Command::new("script"),
        false => Command::new("sh"),
    };
    match on_terminal {
        true => run.args(["-qec", &line, "/dev/null"]),
        false => run.args(["-c", &line]),
    };
    run.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let output = run.stdin(Stdio::null()).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    match on_terminal {
        // A terminal ends lines so.
        true => String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n").into_bytes(),
        false => output.stdout,
    }
}

fn skep(home: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.args(line.split(' ')).env("SKEP_HOME", home);
    command.env("SKEP_HOSTS_FILE", home.parent().unwrap().join("hosts")).env("SHELL", "/bin/sh");
    command
}

/// Writes a store with a cluster `demo` of one node.
fn write_store(home: &Path) {
    let spec = ClusterSpec {
        subnet: Some("172.31.254.0/24".parse().unwrap()),
        ..ClusterSpec::of_machines("demo".parse().unwrap(), 1, 0)
    };
    let options = UpOptions { birth: Birth::Boot, wait: true, verify: Verify::Nothing };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let host = FakeHost::new();
        let plan = plan_up(&spec, &host.observe("demo").await.unwrap(), options).unwrap();
        host.execute("demo", &plan, OnFailure::Stop, &|_| ()).await.unwrap();
        copy(host.cluster("demo").path(), &home.join("clusters/demo"));
    });
}

fn copy(from: &Path, to: &Path) {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn has_hostile(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.contains(['\x1b', '\x07', '\u{9b}', '\u{202e}'])
}

#[test]
fn a_diff_has_colors_on_a_terminal_alone_unless_they_are_unwanted() {
    let dir = tempfile::tempdir().unwrap();
    let diff = |on_terminal: bool, variables: &[(&str, &str)]| {
        let mut command = skep(&dir.path().join("home"), "up demo -n 1 --no-context --dry-run");
        command.env("TERM", "xterm").env("NO_COLOR", "").envs(variables.iter().copied());
        String::from_utf8(said(&mut command, on_terminal)).unwrap()
    };
    let colored = "\x1b[32m+ node0  manager, 1 CPU, 1 GiB memory, 20 GiB disk\x1b[0m\n";
    assert!(diff(true, &[]).contains(colored), "{:?}", diff(true, &[]));
    for plain in
        [diff(false, &[]), diff(true, &[("NO_COLOR", "1")]), diff(true, &[("TERM", "dumb")])]
    {
        assert!(plain.contains("\n+ node0  manager") && !plain.contains('\x1b'), "{plain:?}");
    }
}

#[test]
fn logs_are_exact_in_a_pipe_and_plain_on_a_terminal() {
    let place = tempfile::tempdir().unwrap();
    let home = place.path().join("home");
    write_store(&home);
    let mut log = format!("boot\n{HOSTILE}\n").into_bytes();
    log.extend(b"\xff\xfe\n");
    fs::write(home.join("clusters/demo/machines/node0/console.log"), &log).unwrap();
    assert_eq!(said(&mut skep(&home, "logs demo/node0"), false), log);
    let plain = format!("boot\n{VISIBLE}\n\\xff\\xfe\n");
    assert_eq!(String::from_utf8(said(&mut skep(&home, "logs demo/node0"), true)).unwrap(), plain);
    // Whoever wants colours asks for them.
    fs::write(home.join("clusters/demo/machines/node0/console.log"), "\x1b[31mred\n").unwrap();
    assert_eq!(said(&mut skep(&home, "logs demo/node0 --raw"), true), b"\x1b[31mred\n");
}

#[test]
fn errors_hints_tables_and_documents_are_plain_everywhere() {
    let place = tempfile::tempdir().unwrap();
    let home = place.path().join(HOSTILE);
    write_store(&home);
    for on_terminal in [false, true] {
        for line in ["status demo", "ls", "certs show demo", "status nosuch", "logs demo/node7"] {
            let bytes = said(&mut skep(&home, line), on_terminal);
            assert!(!bytes.is_empty(), "{line}");
            assert!(!has_hostile(&bytes), "{line}: {}", String::from_utf8_lossy(&bytes));
        }
        let status = String::from_utf8(said(&mut skep(&home, "status demo"), on_terminal)).unwrap();
        assert!(status.contains(VISIBLE), "{status}");
        // A program reads the very path.
        let document = said(&mut skep(&home, "status demo -o json"), on_terminal);
        assert!(!has_hostile(&document));
        let value: serde_json::Value = serde_json::from_slice(&document).unwrap();
        let path = serde_json::json!(HOSTILE).to_string();
        assert!(value.to_string().contains(path.trim_matches('"')), "{value}");
        // An error with a hint: the authority's key is open to others.
        let key = home.join("clusters/demo/certs/ca-key.pem");
        fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let bytes = said(&mut skep(&home, "certs renew demo"), on_terminal);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("error: ") && text.contains(VISIBLE), "{text}");
        assert!(!has_hostile(&bytes), "{text}");
        fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
}

/// Plays a step's progress; this test runs itself again to see what comes of it.
#[test]
fn progress_is_plain_in_a_pipe_and_on_a_terminal() {
    if let Ok(way) = std::env::var("SKEP_TEST_PROGRESS") {
        let detail = if way.contains("steps") { Detail::Steps } else { Detail::Phases };
        let progress = Progress::new(detail, skep::render::redraws());
        let text = || format!("{HOSTILE}\n  try: evil");
        let outline = StepOutline { phase: Phase::Image, node: None };
        progress.event(Event::PlanStarted { steps: vec![outline.clone(), outline] });
        progress.event(Event::StepStarted { step: 0, node: None, title: text() });
        progress.event(Event::StepProgress { step: 0, text: text() });
        progress.event(Event::Service { name: text(), text: text(), done: false });
        progress.event(Event::Warning(text()));
        progress.event(Event::Note(text()));
        let took = std::time::Duration::ZERO;
        progress.event(Event::StepFailed { step: 0, took, error: text() });
        return progress.clear();
    }
    let play = |way: &str, term: Option<&str>, no_color: bool, on_terminal: bool| {
        let mut again = Command::new("env");
        if term.is_none() {
            again.args(["-u", "TERM"]);
        }
        again.arg(std::env::current_exe().unwrap());
        again.args(["--exact", "progress_is_plain_in_a_pipe_and_on_a_terminal", "--nocapture"]);
        again.env("SKEP_TEST_PROGRESS", way).env("SHELL", "/bin/sh");
        again.env("TERM", term.unwrap_or("xterm"));
        again.env("NO_COLOR", if no_color { "1" } else { "" });
        String::from_utf8_lossy(&said(&mut again, on_terminal)).into_owned()
    };
    for way in ["phases", "steps"] {
        for on_terminal in [false, true] {
            let text = play(way, Some("xterm"), false, on_terminal);
            let warning = format!("warning: {VISIBLE}");
            assert!(text.contains(&warning) && text.contains("FAILED"), "{text}");
            for part in ["\x1b]0;owned", "\x07", "\x1b[2J\u{9b}", "\u{9b}", "\u{202e}"] {
                assert!(!text.contains(part), "{part:?}: {text:?}");
            }
            assert_eq!(text.contains("\x1b["), on_terminal, "lines move: {text:?}");
        }
        for (term, no_color) in [(Some("dumb"), false), (None, false), (Some("xterm"), true)] {
            let text = play(way, term, no_color, true);
            assert!(!text.contains(['\x1b', '\r']), "{way} {term:?} {no_color}: {text:?}");
            assert!(text.contains("image: failed after") == (way == "phases"), "{text}");
        }
    }
}
