//! `up` is killed at random moments: the next one goes on, and `down` leaves the host as it was.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use skep_testkit::home::{Home, say};
use skep_testkit::host::can_run_machines;
use skep_testkit::traces::Traces;

/// How often `up` is killed before it may end.
const KILLS: usize = 6;

/// The spans from which instants are drawn: how long `up` of two copies, and `down`, take under emulation.
const UP: Duration = Duration::from_secs(3);
const DOWN: Duration = Duration::from_millis(700);

#[test]
fn killed_at_random_moments_up_goes_on_and_down_leaves_nothing() {
    if !can_run_machines() {
        return;
    }
    let host = Traces::look();
    let home = Home::new(env!("CARGO_BIN_EXE_skep"));
    // Instants of the clock, not printed lines: those are only the ends of steps. Each `up` goes on where the one
    // before was killed, so later ones reach further.
    for _ in 0..KILLS {
        kill_within(home.command(["up", "k", "-n", "2", "--no-verify"]), UP);
        assert_eq!(home.try_run("ls").code, 0);
        assert_eq!(home.try_run("up k --dry-run").code, 0);
    }
    home.run("up k -n 2 --no-verify");
    // In the midst of a verification, which leaves a service that nobody asked for.
    let adding = home.command(["node", "add", "-v"]);
    assert!(kill_at(adding, |line| line.contains("start verification service: done")));
    home.run("node rm node2 -y");
    assert_ne!(home.run("docker -- service ls -q"), "", "the service is there yet");
    home.run("up k --verify all");
    assert_eq!(home.run("docker -- network ls -qf label=skep.probe"), "");
    assert_eq!(home.run("docker -- service ls -q"), "", "the probe service is removed");
    assert_eq!(home.each_node("k", "swarm"), ["ready", "ready"]);
    let members = home.run("docker -- node ls --format {{.Hostname}}");
    assert_eq!(members, "node0\nnode1\n", "no member twice");

    kill_within(home.command(["down", "k", "-y"]), DOWN);
    home.run("down k -y");
    host.assert_unchanged();
}

#[test]
fn a_killed_image_build_leaves_nothing_that_counts() {
    if !can_run_machines() {
        return;
    }
    let host = Traces::look();
    let home = Home::new(env!("CARGO_BIN_EXE_skep"));
    let cache = home.path().join("cache");
    let mut up = home.command(["up", "k", "-n", "1", "-v"]);
    up.env("XDG_CACHE_HOME", &cache);
    assert!(kill_at(up, |line| line.contains("downloading packages")));

    let mut list = home.command(["cache", "ls"]);
    let said = skep_testkit::home::finish(list.env("XDG_CACHE_HOME", &cache));
    assert!(said.stdout.contains("(incomplete)"), "{}", said.stdout);
    let mut prune = home.command(["cache", "prune"]);
    let said = skep_testkit::home::finish(prune.env("XDG_CACHE_HOME", &cache));
    assert_eq!(said.code, 0, "nothing of the build runs any more: {}", said.stderr);
    assert!(!cache.join("skep/images").read_dir().unwrap().flatten().any(|it| it.path().is_dir()));
    home.run("down k -y");
    host.assert_unchanged();
}

/// Kills a command at a random instant of a span, or lets it end if it is done before that.
fn kill_within(mut command: Command, span: Duration) {
    let after = span.mul_f64(f64::from(random()) / f64::from(u32::MAX));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while began.elapsed() < after && child.try_wait().unwrap().is_none() {
        // wait: for the chosen instant
        std::thread::sleep(Duration::from_millis(1));
    }
    let ended = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    let how = if ended { "it ended before it was killed" } else { "killed" };
    say(&format!("{how}: {:.3} s of {:.1} s", after.as_secs_f64(), span.as_secs_f64()));
}

/// Kills a command at a line that it tells; says whether there was one.
fn kill_at(mut command: Command, mut moment: impl FnMut(&str) -> bool) -> bool {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    let mut killed = false;
    while !killed && stderr.read_line(&mut line).unwrap() > 0 {
        killed = moment(&line);
        if killed {
            child.kill().unwrap();
        } else {
            line.clear();
        }
    }
    match killed {
        true => say(&format!("killed after: {}", line.trim_end())),
        false => say("it ended before it was killed"),
    }
    // What it started and left must not hold its standard error open.
    stderr.read_to_string(&mut line).unwrap();
    child.wait().unwrap();
    killed
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    u32::from_le_bytes(bytes)
}
