//! `cat` is kept and goes on: it waits for what it is told, and repeats it.

use std::cell::Cell;
use std::io::{PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::process::{Child, Command};

use skep_sys::ProcessId;

use super::*;

/// The standard three.
const INHERITED: u64 = 3;

/// The ends of a process's input and output that are ours.
struct Talk {
    to: PipeWriter,
    from: PipeReader,
}

impl Talk {
    /// Gives a command its ends.
    fn with(command: &mut Command) -> Self {
        let ((input, to), (from, output)) = (pipe().unwrap(), pipe().unwrap());
        command.stdin(input).stdout(output);
        Self { to, from }
    }

    fn assert_repeats(&mut self, text: &str) {
        self.assert_answers(text, text);
    }

    fn assert_answers(&mut self, text: &str, answer: &str) {
        self.to.write_all(text.as_bytes()).unwrap();
        let mut said = vec![0; answer.len()];
        self.from.read_exact(&mut said).unwrap();
        assert_eq!(String::from_utf8_lossy(&said), answer);
    }
}

/// Ends a process when the test does.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &str) -> (Ending, Talk) {
    // Who runs the tests may have left some open.
    skep_sys::close_inherited_on_exec().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", program]);
    let talk = Talk::with(&mut command);
    (Ending(command.spawn().unwrap()), talk)
}

fn go_on(from: &Checkpoint, pages: &Path) -> io::Result<(ProcessId, Talk)> {
    go_on_as("cat", from, pages)
}

/// Returns how a process is restored that shares no file with another and has no device.
fn restoring<'a>(
    checkpoint: &'a Checkpoint,
    pages: &'a Path,
    note: &'a dyn Fn(ProcessId) -> io::Result<()>,
) -> Restoring<'a> {
    Restoring {
        checkpoint,
        pages,
        shared: Path::new("/none"),
        place: &|path| (path.to_owned(), false),
        ioctls: &[],
        user: None,
        note,
    }
}

fn go_on_as(program: &str, from: &Checkpoint, pages: &Path) -> io::Result<(ProcessId, Talk)> {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("kill -STOP $$; exec {program}")]);
    let talk = Talk::with(&mut command);
    let made = Cell::new(None);
    let note = |process| {
        made.set(Some(process));
        Ok(())
    };
    restore(command, &restoring(from, pages, &note))?;
    Ok((made.get().unwrap(), talk))
}

#[test]
fn a_process_goes_on_as_often_as_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("pages");
    let (cat, mut talk) = start("exec cat");
    talk.assert_repeats("before\n");
    let file = std::fs::File::create(&pages).unwrap();
    let kept = dump(cat.0.id(), Path::new("/none"), INHERITED, &file).unwrap();
    talk.assert_repeats("it goes on itself\n");
    drop((cat, talk));

    let text = serde_json::to_string(&kept).unwrap();
    let kept: Checkpoint = serde_json::from_str(&text).unwrap();
    kept.check_host().unwrap();
    let (one, mut to_one) = go_on(&kept, &pages).unwrap();
    let (other, mut to_other) = go_on(&kept, &pages).unwrap();
    to_one.assert_repeats("to one\n");
    to_other.assert_repeats("to the other\n");
    drop(to_one);
    to_other.assert_repeats("it is another process\n");
    for process in [one, other] {
        process.kill();
    }
}

/// Where a new process's own memory would have grown is chance, above or below the old place.
#[test]
fn memory_grows_wherever_the_kernel_had_put_a_new_process() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("pages");
    // A shell that has to allocate memory for what it is told to do.
    let (shell, mut talk) = start("exec sh");
    talk.assert_answers("echo before\n", "before\n");
    let file = std::fs::File::create(&pages).unwrap();
    let kept = dump(shell.0.id(), Path::new("/none"), INHERITED, &file).unwrap();
    // Many small pieces: large ones would be mapped.
    let piece = "x".repeat(100);
    let script =
        format!("i=0; while [ $i -lt 3000 ]; do eval v$i={piece}; i=$((i+1)); done; echo $i");
    for _ in 0..20 {
        let (process, mut talk) = go_on_as("sh", &kept, &pages).unwrap();
        talk.assert_answers(&format!("{script}\n"), "3000\n");
        process.kill();
    }
}

#[test]
fn what_cannot_be_made_once_more_is_refused_and_left_alone() {
    let (cat, mut talk) = start("exec 5<&0; exec cat");
    talk.assert_repeats("before\n");
    let file = tempfile::tempfile().unwrap();
    let error = dump(cat.0.id(), Path::new("/none"), INHERITED, &file).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
    assert!(connected(cat.0.id(), INHERITED).unwrap());
    talk.assert_repeats("it goes on itself\n");
}

#[test]
fn a_host_that_has_changed_is_told() {
    let path = std::env::current_exe().unwrap();
    let stamp = Stamp::of(&path).unwrap();
    let kept = |kernel: String, stamp: Stamp| Checkpoint {
        kernel,
        vdso: Vec::new(),
        regions: Vec::new(),
        heap: (0, 0),
        files: vec![(path.clone(), stamp)],
        threads: Vec::new(),
        descriptors: Vec::new(),
        actions: Vec::new(),
        filter: Vec::new(),
        timer_slack: 0,
    };
    kept(kernel(), stamp.clone()).check_host().unwrap();
    let older = Stamp { modified: (1, 0), ..stamp.clone() };
    assert!(kept(kernel(), older).check_host().unwrap_err().ends_with(" is another one now"));
    assert!(kept("another".into(), stamp).check_host().unwrap_err().contains("another"));
}

/// A way in which going on fails.
struct Failing {
    /// What the error says.
    says: &'static str,
    program: &'static str,
    spoil: fn(&mut Checkpoint),
    pages: bool,
    /// The process is noted, and it may be too late by then.
    notes: bool,
}

impl Failing {
    const fn at(says: &'static str, spoil: fn(&mut Checkpoint)) -> Self {
        Self { says, program: "exec cat", spoil, pages: true, notes: true }
    }
}

/// Adds a thread, which waits as the first one does.
fn add_thread(kept: &mut Checkpoint) {
    kept.threads.push(kept.threads[0].clone());
}

const FAILURES: [Failing; 9] = [
    Failing { program: "exec /none/such", ..Failing::at("did something else", |_| ()) },
    Failing { program: "exit 3", ..Failing::at("did something else", |_| ()) },
    Failing::at("is another one", |kept| kept.vdso[0].2 += PAGE),
    Failing { pages: false, ..Failing::at("pages", |_| ()) },
    Failing::at("/none/such", |kept| {
        let kind = Kind::File { path: "/none/such".into() };
        kept.descriptors.push(Descriptor { number: 7, flags: 0, kind });
    }),
    Failing::at("signals", |kept| kept.actions.push((4711, vec![0; 32]))),
    Failing::at("filter its system calls", |kept| kept.filter = vec![u64::MAX]),
    Failing { notes: false, ..Failing::at("not noted", |_| ()) },
    Failing { notes: false, ..Failing::at("not noted", add_thread) },
];

/// Restores what cannot be restored, for one reason; returns what was said, and the other end of the process's output.
fn fail(kept: &Checkpoint, pages: &Path, failing: &Failing) -> (String, Talk) {
    for _ in 0..20 {
        let mut from = kept.clone();
        (failing.spoil)(&mut from);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("kill -STOP $$; {}", failing.program)]);
        command.stderr(std::process::Stdio::null());
        let talk = Talk::with(&mut command);
        let pages = if failing.pages { pages } else { Path::new("/none/pages") };
        let note = |_| match failing.notes {
            true => Ok(()),
            false => Err(io::Error::other("not noted")),
        };
        let error = restore(command, &restoring(&from, pages, &note)).unwrap_err().to_string();
        // The kernel puts what it maps for a new process at random places, now and then where the pages have to go.
        // Then there is a reason before the one that is meant.
        if !error.contains("its place in memory is taken") {
            return (error, talk);
        }
    }
    panic!("its place in memory is taken each time")
}

#[test]
fn whatever_fails_leaves_no_process_and_nothing_open() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("pages");
    let (cat, mut talk) = start("exec cat");
    talk.assert_repeats("before\n");
    let file = std::fs::File::create(&pages).unwrap();
    let kept = dump(cat.0.id(), Path::new("/none"), INHERITED, &file).unwrap();
    for _ in 0..20 {
        for failing in &FAILURES {
            let (error, mut talk) = fail(&kept, &pages, failing);
            assert!(error.contains(failing.says), "{}: {error}", failing.says);
            // As a tap is, a pipe is closed when the last one who has it closes it; and that is now, not soon.
            assert!(nothing_is_open(&mut talk), "{}: it still has what it was given", failing.says);
        }
    }
}

/// Tells whether nobody has the other end of what a process writes to, without waiting for it.
fn nothing_is_open(talk: &mut Talk) -> bool {
    rustix::io::ioctl_fionbio(&talk.from, true).unwrap();
    match talk.from.read(&mut [0]) {
        Ok(0) => true,
        Ok(_) => panic!("nothing was said"),
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            false
        }
    }
}

/// Is set in a process that has a network of its own.
const INSIDE: &str = "SKEP_TEST_CHECKPOINT_TAP";

/// What is started in a copy's place gets its tap, at once: the kernel refuses a tap that somebody still has.
#[test]
fn whatever_fails_its_tap_is_free() {
    if std::env::var_os(INSIDE).is_none() {
        if !skep_sys::is_root() {
            return test_skip::skip("taps need root");
        }
        let mut inside = Command::new("unshare");
        inside.arg("--net").arg(std::env::current_exe().unwrap());
        inside.args(["--exact", "tests::whatever_fails_its_tap_is_free"]);
        assert!(inside.arg("--nocapture").env(INSIDE, "1").status().unwrap().success());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("pages");
    let (cat, mut talk) = start("exec cat");
    talk.assert_repeats("before\n");
    let file = std::fs::File::create(&pages).unwrap();
    let mut kept = dump(cat.0.id(), Path::new("/none"), INHERITED, &file).unwrap();
    // Several threads have it, each of which ends by itself.
    for _ in 0..3 {
        add_thread(&mut kept);
    }
    for round in 0..40 {
        let tap = skep_sys::open_tap("skepttest0").unwrap_or_else(|error| {
            panic!("round {round}: the tap is still in use: {error}");
        });
        let mut command = Command::new("sh");
        command.args(["-c", "kill -STOP $$; exec cat"]).stdin(tap);
        let how = Restoring {
            checkpoint: &kept,
            pages: &pages,
            shared: Path::new("/none"),
            place: &|path| (path.to_owned(), false),
            ioctls: &[],
            user: None,
            note: &|_| Err(io::Error::other("not noted")),
        };
        let error = restore(command, &how).unwrap_err().to_string();
        assert_eq!(error, "not noted");
    }
}
