//! The container runtime, as containerd finds it in an emulated guest: runc, but for one hook that this program does itself.
//!
//! The engine has runc tell it which network namespace a container was given, by a hook that is the engine's own
//! program, started once more for the sake of one line to a socket. To start that program takes, emulated, half a second
//! of the two that a short container takes. The hook is made to be this program, which says the same line
//! (`sandbox_externalkey_unix.go` of moby's libnetwork). Whatever else a bundle asks for, or if this is not how the
//! engine asks for it, stays as it is.
//!
//! Started by the hook's name it is the hook, and by any other it is runc, with its arguments.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

/// This program.
const SELF: &str = "/run/skep/emulated/runtime";
/// Where runc is: the copy in memory, which is gone while containerd is not there, and where packages have it.
const RUNC: [&str; 3] = ["/run/skep/runc", "/usr/sbin/runc", "/usr/bin/runc"];
/// The name by which the engine's program is the hook.
const HOOK: &str = "libnetwork-setkey";
/// What the engine answers if it could set the namespace, and else the reason.
const SUCCESS: &str = "success";

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let said = match words.first().is_some_and(|name| name == HOOK) {
        true => hook(&words),
        false => runc(&words),
    };
    match said {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Becomes runc; does not return if that is there.
fn runc(words: &[OsString]) -> Result<(), String> {
    if let Some(bundle) = bundle(words) {
        // A bundle that cannot be read or written is for runc to speak of.
        let _ = take_hook_over(&Path::new(bundle).join("config.json"));
    }
    let mut last = String::new();
    for file in RUNC {
        let error = Command::new(file).arg0("runc").args(words.iter().skip(1)).exec();
        last = format!("{file}: {error}");
    }
    Err(last)
}

/// The bundle of the container that runc is to make.
fn bundle(words: &[OsString]) -> Option<&OsString> {
    words.iter().position(|word| word == "create")?;
    let option = words.iter().position(|word| word == "--bundle")?;
    words.get(option + 1)
}

fn take_hook_over(file: &Path) -> io::Result<()> {
    let Some(text) = with_own_hook(&fs::read_to_string(file)?) else { return Ok(()) };
    let new = file.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, file)
}

/// Makes the first hook this program if it is the engine's, called as is known here. The quotes of what a container
/// is called or told are escaped, so that these words can only be the bundle's own.
fn with_own_hook(config: &str) -> Option<String> {
    let (before, rest) = config.split_once(r#""hooks":{"prestart":[{"path":"/proc/"#)?;
    let (pid, rest) = rest.split_once(r#"/exe","args":[""#)?;
    let (words, after) = rest.split_once(r#""]"#)?;
    let known = Order::parse(&words.split(r#"",""#).collect::<Vec<_>>()).is_some();
    (known && pid.bytes().all(|byte| byte.is_ascii_digit())).then(|| {
        format!(r#"{before}"hooks":{{"prestart":[{{"path":"{SELF}","args":["{words}"]{after}"#)
    })
}

/// Tells the engine which namespace the container has.
fn hook(words: &[OsString]) -> Result<(), String> {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let order = Order::parse(&words).ok_or_else(|| format!("not understood: {words:?}"))?;
    let mut state = String::new();
    io::stdin().read_to_string(&mut state).map_err(|error| format!("no state: {error}"))?;
    let pid = pid(&state).ok_or_else(|| format!("a state without a process: {state}"))?;
    let answer = order.tell(pid).map_err(|error| format!("{}: {error}", order.socket))?;
    if answer == SUCCESS { Ok(()) } else { Err(answer) }
}

/// Whose namespace the engine is told of, and where.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    socket: String,
    container: String,
}

impl Order {
    /// Understands `libnetwork-setkey -exec-root=DIRECTORY CONTAINER CONTROLLER`.
    fn parse(words: &[&str]) -> Option<Self> {
        let &[HOOK, root, container, controller] = words else { return None };
        let root = root.strip_prefix("-exec-root=")?;
        let plain = |word: &str| word.bytes().all(|it| it.is_ascii_alphanumeric());
        (plain(container) && plain(controller)).then(|| Self {
            socket: format!("{root}/libnetwork/{controller}.sock"),
            container: container.to_owned(),
        })
    }

    /// Returns what the engine says to it.
    fn tell(&self, pid: u32) -> io::Result<String> {
        let mut engine = UnixStream::connect(&self.socket)?;
        let container = &self.container;
        let line = format!("{{\"ContainerID\":\"{container}\",\"Key\":\"/proc/{pid}/ns/net\"}}\n");
        // The engine reads once.
        engine.write_all(line.as_bytes())?;
        let mut answer = String::new();
        engine.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// The container's process, of the state that a hook is given (runtime-spec).
fn pid(state: &str) -> Option<u32> {
    let key = r#""pid":"#;
    state.match_indices(key).find_map(|(at, _)| {
        let rest = state[at + key.len()..].trim_start();
        let end = rest.find(|it: char| !it.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::net::UnixListener;

    const CONFIG: &str = r#"{"process":{"env":["A=\"hooks\":{\"prestart\":[{"]},"hooks":{"prestart":[{"path":"/proc/172/exe","args":["libnetwork-setkey","-exec-root=/var/run/docker","87809f","5feaea"]}]},"linux":{}}"#;

    #[test]
    fn the_engines_hook_is_taken_over_and_nothing_else() {
        let own = CONFIG.replace("/proc/172/exe", SELF);
        assert_eq!(with_own_hook(CONFIG).as_deref(), Some(&*own));
        for (from, to) in [
            ("172", "self"),
            ("libnetwork-setkey", "another"),
            ("prestart", "poststart"),
            ("-exec-root=", "--root="),
            (r#""5feaea""#, r#""5feaea","more""#),
            ("/exe", "/root/exe"),
            ("5feaea", "../x"),
        ] {
            assert_eq!(with_own_hook(&CONFIG.replace(from, to)), None, "{from} is {to}");
        }
        assert_eq!(with_own_hook("{}"), None);
    }

    #[test]
    fn only_a_bundle_that_is_made_is_read() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let create = words("runc --root /r create --bundle /b --pid-file /p id");
        assert_eq!(bundle(&create), Some(&OsString::from("/b")));
        for other in [
            "runc start id",
            "runc create id",
            "runc restore --bundle /b id",
            "runc create --bundle",
        ] {
            assert_eq!(bundle(&words(other)), None, "{other}");
        }
    }

    #[test]
    fn the_engine_is_told_of_the_process_and_its_answer_counts() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("libnetwork")).unwrap();
        let engine = UnixListener::bind(dir.path().join("libnetwork/c0.sock")).unwrap();
        let root = format!("-exec-root={}", dir.path().display());
        let order = Order::parse(&[HOOK, &root, "id", "c0"]).unwrap();
        let state = r#"{"ociVersion":"1.2.0","annotations":{"pid":"9"},"pid": 17,"bundle":"/b"}"#;
        let said = std::thread::spawn(move || order.tell(pid(state).unwrap()).unwrap());
        let (mut asked, _) = engine.accept().unwrap();
        let mut line = [0; 100];
        let length = asked.read(&mut line).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&line[..length]).unwrap();
        assert_eq!(json, serde_json::json!({"ContainerID": "id", "Key": "/proc/17/ns/net"}));
        asked.write_all(b"no sandbox").unwrap();
        drop(asked);
        assert_eq!(said.join().unwrap(), "no sandbox");
        assert_eq!(pid(r#"{"pid":"9"}"#), None);
    }
}
