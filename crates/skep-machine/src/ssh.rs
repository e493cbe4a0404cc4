//! `ssh`, `scp` and `mount`: other programs with the options that lead to a machine.
//!
//! docker-machine does not check host keys, and neither may this for machines that come and go at the same
//! addresses. Hosts of the generic driver stay what they are: their keys were pinned when they were set up.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use gotemplate::go_quote;
use skep_print::out;
use skep_store::dm::reason;
use skep_sys::{find_program, run_attached};

use super::call::Call;
use super::driver::{Kind, Login, Machine, State};
use super::failure::Failure;
use super::hosts;

/// The options that lead to a new machine every time.
const TRUSTING: [&str; 6] = [
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=quiet",
];

/// Returns the arguments of ssh(1) up to the command.
///
/// # Errors
///
/// If the key is not there or others can read it.
pub(super) fn base_args(machine: &Machine) -> Result<Vec<String>, String> {
    let mut args = plain_args(&machine.login())?;
    let pinned = pins(&[machine])?;
    if !pinned.is_empty() {
        trust_only(&mut args, &pinned);
    }
    Ok(args)
}

fn plain_args(login: &Login) -> Result<Vec<String>, String> {
    let plain = [
        "ConnectionAttempts=3",
        "ConnectTimeout=10",
        "ControlMaster=no",
        "ControlPath=none",
        "LogLevel=quiet",
        "PasswordAuthentication=no",
        "ServerAliveInterval=60",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
    ];
    check_words(&login.user, &login.host)?;
    let mut args = vec!["-F".to_owned(), "/dev/null".to_owned()];
    args.extend(plain.iter().flat_map(|option| ["-o".to_owned(), (*option).to_owned()]));
    args.push(format!("{}@{}", login.user, login.host));
    if !login.key.is_empty() {
        check_key(&login.key)?;
        let key = token_free(&login.key);
        args.extend(["-o", "IdentitiesOnly=yes", "-i", &key].map(str::to_owned));
    }
    args.extend(["-p".to_owned(), login.port.to_string()]);
    Ok(args)
}

/// Refuses a login that ssh(1) would take for an option. A `--` before it would make options of the command's
/// user, which come after it, parts of the command there.
fn check_words(user: &str, host: &str) -> Result<(), String> {
    match [user, host].into_iter().find(|word| word.starts_with('-')) {
        Some(word) => Err(format!("{word:?} is neither a user nor a host")),
        None => Ok(()),
    }
}

/// Returns a path in which no percent sign begins a token of ssh(1).
fn token_free(path: &str) -> String {
    skep_sys::ssh_path(path).to_string_lossy().into_owned()
}

/// Lets ssh(1) trust the keys that were pinned when hosts were set up, and no others.
fn trust_only(args: &mut [String], pinned: &[PathBuf]) {
    let file = |file: &PathBuf| go_quote(&token_free(&file.to_string_lossy()));
    let files: Vec<_> = pinned.iter().map(file).collect();
    for arg in args {
        match arg.as_str() {
            "StrictHostKeyChecking=no" => *arg = "StrictHostKeyChecking=yes".to_owned(),
            "UserKnownHostsFile=/dev/null" => {
                *arg = format!("UserKnownHostsFile={}", files.join(" "));
            }
            "LogLevel=quiet" => *arg = "LogLevel=ERROR".to_owned(),
            _ => {}
        }
    }
}

/// Returns the files in which the keys of machines are pinned; none if none of them has to have the key that
/// it had.
///
/// # Errors
///
/// If one has to and of another one the key is not known: they are reached with the same options.
fn pins(machines: &[&Machine]) -> Result<Vec<PathBuf>, String> {
    let is_pinned = |it: &&Machine| it.kind == Kind::Generic && hosts::pinned(it).is_some();
    let Some(pinned) = machines.iter().copied().find(|it| is_pinned(it)) else {
        return Ok(Vec::new());
    };
    let pin = |it: &&Machine| {
        hosts::pinned(it).ok_or_else(|| {
            format!(
                "{} has a pinned host key and {} has none: copy in two steps",
                pinned.name(),
                it.name()
            )
        })
    };
    machines.iter().map(pin).collect()
}

fn check_key(path: &str) -> Result<(), String> {
    let found = std::fs::metadata(path).map_err(|why| format!("stat {path}: {}", reason(&why)))?;
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o400 == 0 {
        return Err(format!("'{path}' is not readable"));
    }
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(format!("permissions {mode:#05o} for '{path}' are too open").replace("0o", "0")),
    }
}

/// Runs a program with our streams; any code of its own but 0 is told and becomes 1.
fn hand_over(call: &Call, program: &Path, args: &[String]) -> Result<(), Failure> {
    call.say.debug(format!("{} {}", program.display(), args.join(" ")));
    let status = run_attached(program, args).map_err(|why| reason(&why))?;
    match (status.success(), status.code()) {
        (true, _) => Ok(()),
        (_, Some(code)) => Err(format!("exit status {code}").into()),
        (_, None) => Err("signal: killed".into()),
    }
}

fn program(name: &str, missing: &str) -> Result<PathBuf, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    find_program(name, &path).ok_or_else(|| {
        Failure::new(format!(
            "You must have a copy of the {name} binary locally to use the {missing}"
        ))
    })
}

/// Opens a shell on a machine, or runs a command there.
pub(super) async fn ssh(call: &Call) -> Result<(), Failure> {
    let words = call.words();
    if let Some("-h" | "--help" | "-help") = words.first().map(String::as_str) {
        out!("{}", call.help);
        return Ok(());
    }
    let machine = call.load(&call.target()?)?;
    if machine.state().await? != State::Running {
        let name = go_quote(machine.name());
        return Err(format!("Error: Cannot run SSH command: Host {name} is not running").into());
    }
    if machine.kind == Kind::None {
        return Err("Error: Cannot run SSH command: hosts without a driver have no SSH".into());
    }
    let mut args = base_args(&machine)?;
    args.extend(words.iter().skip(1).cloned());
    hand_over(call, &program("ssh", "ssh feature")?, &args)
}

/// One side of a copy.
struct Side {
    machine: Option<(Machine, String)>,
    path: String,
}

impl Side {
    /// Takes `[user@]machine:path` apart; what has no colon is a path here.
    fn parse(call: &Call, text: &str) -> Result<Self, Failure> {
        let here = |path: &str| Self { machine: None, path: path.to_owned() };
        let Some((host, path)) = text.split_once(':') else { return Ok(here(text)) };
        let (user, name) = match host.split_once('@') {
            Some((user, name)) => (user, name),
            None => ("", host),
        };
        if name == "localhost" {
            return Ok(here(path));
        }
        let machine = call.load(name).map_err(|failure| {
            Failure::new(format!("Error loading host: Error loading host: {}", failure.text))
        })?;
        let user = if user.is_empty() { machine.login().user } else { user.to_owned() };
        check_words(&user, &machine.login().host)?;
        Ok(Self { machine: Some((machine, user)), path: path.to_owned() })
    }

    fn lacks_key(&self) -> bool {
        self.machine.as_ref().is_some_and(|(machine, _)| machine.login().key.is_empty())
    }

    fn options(&self, quoted: bool) -> Vec<String> {
        let Some((machine, _)) = &self.machine else { return Vec::new() };
        let login = machine.login();
        let mut options = vec!["-o".to_owned(), format!("Port={}", login.port)];
        if !login.key.is_empty() {
            let key = token_free(&login.key);
            let key = if quoted { go_quote(&key) } else { key };
            options.extend(["-o".to_owned(), format!("IdentityFile={key}")]);
        }
        options
    }

    fn location(&self) -> String {
        match &self.machine {
            Some((machine, user)) => format!("{user}@{}:{}", machine.login().host, self.path),
            None => self.path.clone(),
        }
    }
}

/// Returns the options of host keys for the machines of a copy.
fn trust(sides: &[&Side]) -> Result<Vec<String>, String> {
    let machines =
        sides.iter().filter_map(|side| side.machine.as_ref().map(|(machine, _)| machine));
    let pinned = pins(&machines.collect::<Vec<_>>())?;
    let mut options = TRUSTING.map(str::to_owned).to_vec();
    if !pinned.is_empty() {
        trust_only(&mut options, &pinned);
    }
    Ok(options)
}

/// Copies files from or to machines.
pub(super) fn scp(call: &Call) -> Result<(), Failure> {
    let [from, to] = call.words() else { return wrong_number(call) };
    let (from, to) = (Side::parse(call, from)?, Side::parse(call, to)?);
    let (delta, quiet) = (call.given.switch("delta"), call.given.switch("quiet"));
    let recursive = call.given.switch("recursive").then(|| "-r".to_owned());
    let mut options = trust(&[&from, &to])?;
    if !delta {
        options.push("-3".to_owned());
        options.extend(recursive.clone());
        options.extend(quiet.then(|| "-q".to_owned()));
    }
    if !from.lacks_key() && !to.lacks_key() {
        options.extend(["-o", "IdentitiesOnly=yes"].map(str::to_owned));
    }
    options.extend(from.options(true));
    options.extend(to.options(true));
    let program = match delta {
        true => program("rsync", "--delta option")?,
        false => program("scp", "scp feature")?,
    };
    if delta {
        let words = options.iter().map(|option| rsync_word(option));
        let command = format!("ssh {}", words.collect::<Vec<_>>().join(" "));
        options = (!quiet).then(|| "--progress".to_owned()).into_iter().collect();
        options.extend(["-e".to_owned(), command]);
        options.extend(recursive);
    }
    options.extend([from.location(), to.location()]);
    hand_over(call, &program, &options)
}

/// Returns a word of the command that rsync(1) is given with `-e`: it splits it at blanks and takes one level of
/// quotes away, in which a doubled quote stands for one. Words without blanks are left as docker-machine has them.
fn rsync_word(word: &str) -> String {
    match word.contains(char::is_whitespace) {
        true => format!("'{}'", word.replace('\'', "''")),
        false => word.to_owned(),
    }
}

/// Mounts a machine's directory here, or unmounts it.
pub(super) fn mount(call: &Call) -> Result<(), Failure> {
    let (from, to) = match call.words() {
        [from] => (from, None),
        [from, to] => (from, Some(to.clone())),
        _ => return wrong_number(call),
    };
    let from = if from.contains(':') { from.clone() } else { format!("default:{from}") };
    let from = Side::parse(call, &from)?;
    let to = to.unwrap_or_else(|| from.path.clone());
    if call.given.switch("unmount") {
        let program = program("fusermount", "unmount option")?;
        return hand_over(call, &program, &["-u".to_owned(), to]);
    }
    let mut options = trust(&[&from])?;
    if !from.lacks_key() {
        options.extend(["-o", "IdentitiesOnly=yes"].map(str::to_owned));
    }
    // sshfs hands the option on to ssh(1), which takes quotes away where there are any.
    let is_split = from.machine.as_ref().is_some_and(|(it, _)| it.login().key.contains(' '));
    options.extend(from.options(is_split));
    options.extend([from.location(), to]);
    hand_over(call, &program("sshfs", "mount feature")?, &options)
}

fn wrong_number(call: &Call) -> Result<(), Failure> {
    out!("{}", call.help);
    Err("Improper number of arguments".into())
}
