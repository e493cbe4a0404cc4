//! Where a node's log is, and how far it has been read.

use std::time::Duration;

use skep_core::observed::MachineState;
use skep_driver::Driver;
use skep_driver::qemu::console;
use skep_store::Machine;
use skep_sys::shell;

use super::{LogOf, LogOptions};
use crate::Error;

/// The program that reads a service's log in a node.
const READ_LOG: &str = include_str!("read_log.sh");

/// Its name, under which a process shows up.
pub const READ_LOG_NAME: &str = "skep-read-log";

/// Where runit's logs are in a node.
const LOGS: &str = "/var/log";

/// How much is read at once, in bytes.
const MOST: usize = 512 << 10;

/// The code of the program if there is no such log.
const NO_LOG: i32 = 3;

/// By how many of its last bytes the place is found again up to which a console was read.
const ANCHOR: usize = 1 << 10;

/// What was read at once.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub bytes: Vec<u8>,
    /// Whether there is more already.
    pub more: bool,
    /// Whether something in between is gone.
    pub lost: bool,
}

/// A log, and how far it has been read.
pub(super) enum Source {
    Console { place: Place, is_followed: bool },
    Service { name: String, lines: String, position: String },
}

impl Source {
    pub(super) fn new(options: &LogOptions) -> Self {
        match &options.of {
            LogOf::Console => {
                Self::Console { place: Place::default(), is_followed: options.follow }
            }
            LogOf::Service(name) => Self::Service {
                name: name.clone(),
                lines: options.tail.map(|lines| lines.to_string()).unwrap_or_default(),
                position: String::new(),
            },
        }
    }

    pub(super) fn is_of_console(&self) -> bool {
        matches!(self, Self::Console { .. })
    }

    /// Reads what has been added since the last time.
    pub(super) async fn read(
        &mut self,
        driver: &dyn Driver,
        machine: &Machine,
    ) -> Result<Piece, Error> {
        match self {
            Self::Console { place, is_followed } => {
                read_console(place, machine, *is_followed).await
            }
            Self::Service { name, lines, position } => {
                read_service(driver, machine, name, lines, position).await
            }
        }
    }
}

/// How far a console was read. Its file is rewritten each time and loses its oldest part when it is too long.
#[derive(Default)]
pub(super) struct Place {
    length: usize,
    last: Vec<u8>,
}

impl Place {
    /// Returns what of a console's file has not been read yet; all of it, if it is a new one.
    fn rest_of<'a>(&mut self, all: &'a [u8]) -> &'a [u8] {
        let is_longer = all.get(..self.length).is_some_and(|read| read.ends_with(&self.last));
        let from = match is_longer {
            true => self.length,
            false => {
                let mut windows = all.windows(self.last.len().max(1));
                windows.rposition(|it| it == self.last).map_or(0, |at| at + self.last.len())
            }
        };
        *self = Self { length: all.len(), last: all[all.len().saturating_sub(ANCHOR)..].to_vec() };
        &all[from..]
    }
}

async fn read_console(
    place: &mut Place,
    machine: &Machine,
    is_followed: bool,
) -> Result<Piece, Error> {
    let node = machine.record.name();
    if machine.record.spec.is_host() {
        return Err(Error::NoConsole(node.clone()));
    }
    let copy = machine.clone();
    // QEMU's monitor may be silent for a moment, in which other nodes are to be read.
    let read = tokio::task::spawn_blocking(move || console(&copy)).await;
    let all = match read.expect("reading does not panic") {
        Ok(all) => all,
        // Between two lives of a machine there is no file.
        Err(error) if is_followed && error.source.kind() == std::io::ErrorKind::NotFound => {
            Vec::new()
        }
        Err(source) => return Err(Error::Console { node: node.clone(), source }),
    };
    Ok(Piece { bytes: place.rest_of(&all).to_vec(), ..Piece::default() })
}

async fn read_service(
    driver: &dyn Driver,
    machine: &Machine,
    name: &str,
    lines: &str,
    position: &mut String,
) -> Result<Piece, Error> {
    let node = machine.record.name().clone();
    if driver.state(machine).await != MachineState::Running {
        return Err(Error::NotRunning(node));
    }
    let limit = Duration::from_secs(5) * driver.slowness(machine);
    let most = MOST.to_string();
    let words = ["/bin/sh", "-c", READ_LOG, READ_LOG_NAME, name, position, &most, lines, LOGS];
    let output = driver.shell(machine).run(&words, b"", limit).await;
    let output = match output {
        Ok(output) if output.code == 0 => output.stdout,
        Ok(output) if output.code == NO_LOG => {
            return Err(Error::NoLog { node, service: name.to_owned() });
        }
        Ok(output) => {
            let what = format!("reading the log of {name}");
            let tail = skep_sys::tail(&output.stderr);
            let source = shell::Error::Failed { what, code: output.code, tail };
            return Err(Error::Shell { node, source });
        }
        Err(source) => return Err(Error::Shell { node, source }),
    };
    let (piece, next) = parse(&output).ok_or_else(|| {
        let reason = "its output is not what the program prints".to_owned();
        Error::Shell {
            node,
            source: shell::Error::Refused { command: READ_LOG_NAME.into(), reason },
        }
    })?;
    *position = next;
    Ok(piece)
}

/// Reads what the program printed: the next position, how it goes on, and a part of the log.
fn parse(output: &[u8]) -> Option<(Piece, String)> {
    let end = output.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&output[..end]).ok()?;
    let (position, state) = head.split_once(' ')?;
    let bytes = output[end + 1..].to_vec();
    // A guest that has always more and never says anything keeps nobody busy.
    let more = matches!(state, "more" | "lost") && !bytes.is_empty();
    Some((Piece { bytes, more, lost: state == "lost" }, position.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_console_goes_on_where_it_was_read() {
        let mut place = Place::default();
        assert_eq!(place.rest_of(b"one\n"), b"one\n");
        assert_eq!(place.rest_of(b"one\ntwo\n"), b"two\n");
        assert_eq!(place.rest_of(b"one\ntwo\n"), b"");
        // The oldest part is gone.
        let mut long: Vec<u8> =
            (0..5000).flat_map(|n: u32| format!("{n}\n").into_bytes()).collect();
        place.rest_of(&long);
        long.extend_from_slice(b"new\n");
        assert_eq!(place.rest_of(&long[3000..]), b"new\n");
        assert_eq!(place.rest_of(b"another boot\n"), b"another boot\n");
    }

    /// Reads all that there is from a position on; notes in capitals what is said beside it.
    fn read(logs: &Path, position: &mut String, most: usize, lines: &str) -> String {
        let mut all = String::new();
        loop {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", READ_LOG, "x", "docker", position, &most.to_string(), lines]);
            let output = command.arg(logs).output().unwrap();
            assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
            let (piece, next) = parse(&output.stdout).unwrap();
            *position = next;
            all.push_str(if piece.lost { "LOST " } else { "" });
            all.push_str(std::str::from_utf8(&piece.bytes).unwrap());
            if !piece.more {
                return all;
            }
        }
    }

    fn append(file: &Path, text: &str) {
        let old = fs::read_to_string(file).unwrap_or_default();
        // In place: svlogd keeps the file.
        fs::write(file, old + text).unwrap();
    }

    #[test]
    fn a_service_log_is_read_across_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("docker");
        fs::create_dir(&log).unwrap();
        let current = log.join("current");
        let rotate = |name: &str| fs::rename(&current, log.join(format!("@{name}.s"))).unwrap();
        append(&current, "one\n");
        rotate("4000000000000001");
        append(&current, "two\nthree\n");
        let mut position = String::new();
        assert_eq!(read(dir.path(), &mut position, 5, ""), "one\ntwo\nthree\n");
        assert_eq!(read(dir.path(), &mut position, 100, ""), "");
        append(&current, "four\n");
        assert_eq!(read(dir.path(), &mut position, 100, ""), "four\n");
        // It goes on in the file that was current, then in those after it.
        append(&current, "five\n");
        rotate("4000000000000002");
        append(&current, "six\n");
        rotate("4000000000000003");
        append(&current, "seven\n");
        assert_eq!(read(dir.path(), &mut position, 100, ""), "five\nsix\nseven\n");
        let mut last = String::new();
        assert_eq!(read(dir.path(), &mut last, 100, "1"), "seven\n");
        // All files were replaced meanwhile. Names of files are gone before their numbers are used again.
        rotate("4000000000000004");
        append(&current, "eight\n");
        for old in ["1", "2", "3", "4"] {
            fs::rename(log.join(format!("@400000000000000{old}.s")), dir.path().join(old)).unwrap();
        }
        assert_eq!(read(dir.path(), &mut position, 100, ""), "LOST eight\n");
    }

    #[test]
    fn a_service_without_a_log_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", READ_LOG, "x", "mirror", "", "100", ""]).arg(dir.path());
        assert_eq!(command.output().unwrap().status.code(), Some(NO_LOG));
    }

    #[test]
    fn what_no_program_of_ours_prints_is_refused() {
        for hostile in [&b""[..], b"f:1:2", b"nothing\n", b"\xff \n"] {
            assert!(parse(hostile).is_none(), "{hostile:?}");
        }
        let (piece, _) = parse(b"f:1:2 more\n").unwrap();
        assert!(!piece.more, "an endless guest keeps a reader busy");
    }
}
