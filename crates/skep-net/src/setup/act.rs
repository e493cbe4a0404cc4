//! Changing a host, and changing it back.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_sys::{
    Cmd, CmdError, FileError, Lock, make_private_dir, remove_file, remove_tree, write_atomic,
};

use super::look::record;
use super::{Error, GROUP, Part, Record, SUBIDS, SUDOERS, Seen, Wanted, apparmor, sudoers};
use crate::network::{self, LinuxNetwork, Network, claims};
use crate::privileged_helper::{self, Grants, PROGRAM};

/// How long others may change the same: each of them ends by its own limits.
const TURN: Duration = Duration::from_secs(60);

/// Returns the directory of the copy.
pub(super) fn program_dir() -> &'static Path {
    Path::new(PROGRAM).parent().unwrap_or(Path::new("/"))
}

/// Does what is missing; `say` is told of each part before it is done. `version` is that of this skep.
///
/// # Errors
///
/// If a part cannot be done. What was done is written down, so it can be taken back.
pub async fn set_up(
    parts: &[Part],
    wanted: &Wanted,
    state: &Path,
    version: &str,
    say: &mut (dyn FnMut(&Part) + Send),
) -> Result<(), Error> {
    if !skep_sys::is_root() {
        return Err(Error::NotRoot);
    }
    if let Err(CmdError::NotFound { .. }) = Cmd::new("visudo").arg("--version").run().await {
        return Err(Error::NoSudo);
    }
    make_private_dir(state)?;
    let _turn = Lock::take_within(&state.join("setup.lock"), TURN).await?;
    let mut record = record(state)?;
    record.format = Record::FORMAT;
    version.clone_into(&mut record.version);
    for part in parts {
        say(part);
        if !record.parts.contains(part) {
            record.parts.push(part.clone());
        }
        write_record(state, &record)?;
        perform(part, wanted, state).await?;
    }
    Ok(())
}

fn write_record(state: &Path, record: &Record) -> Result<(), FileError> {
    let text = serde_json::to_vec_pretty(record).expect("a record has only text keys");
    write_atomic(&state.join("setup.json"), 0o600, &text)
}

async fn perform(part: &Part, wanted: &Wanted, state: &Path) -> Result<(), Error> {
    match part {
        Part::Group => run("groupadd", &["--system", GROUP]).await,
        Part::ProgramDir => {
            let dir = program_dir();
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir);
            made.map_err(|source| FileError::new("make", dir, source))?;
            // Whatever is masked for root's own files: users have to get there.
            let mode = PermissionsExt::from_mode(0o755);
            let set = std::fs::set_permissions(dir, mode);
            Ok(set.map_err(|source| FileError::new("open", dir, source))?)
        }
        Part::Program => {
            let own = PathBuf::from("/proc/self/exe");
            let program = std::fs::read(&own);
            let program = program.map_err(|source| FileError::new("read", &own, source))?;
            Ok(write_atomic(Path::new(PROGRAM), 0o755, &program)?)
        }
        Part::Grants => {
            let text = serde_json::to_vec_pretty(&wanted.grants).expect("grants have text keys");
            Ok(write_atomic(&state.join(Grants::FILE), 0o600, &text)?)
        }
        Part::Sudoers => sudoers::write(state).await,
        Part::Profile { program } => apparmor::write(program, state).await,
        Part::Member { user, group } => run("usermod", &["-a", "-G", group, user]).await,
        Part::SubIds { user, first } => {
            let range = range(*first);
            run("usermod", &["--add-subuids", &range, "--add-subgids", &range, user]).await
        }
    }
}

fn range(first: u32) -> String {
    format!("{first}-{}", first + (SUBIDS - 1))
}

/// Takes back what was done; `say` is told of each part before. With `force` networks of users go too, under
/// their machines.
///
/// # Errors
///
/// If users have clusters, unless it is forced, or a part cannot be taken back; then it stays written down.
pub async fn undo(
    seen: &Seen,
    state: &Path,
    force: bool,
    say: &mut (dyn FnMut(&Part) + Send),
) -> Result<(), Error> {
    if !skep_sys::is_root() {
        return Err(Error::NotRoot);
    }
    if !state.exists() {
        return Ok(());
    }
    let _turn = Lock::take_within(&state.join("setup.lock"), TURN).await?;
    // Nobody makes another network from here on: that lock is needed for it.
    let _networks = Lock::take_within(&claims::lock_file(state), TURN).await?;
    if !force && !seen.used.is_empty() {
        return Err(Error::InUse(seen.used.clone()));
    }
    privileged_helper::remove_all_names(state)?;
    for used in &seen.used {
        let peerings = claims::peerings(&claims::forget_peers(state, &used.bridge)?);
        network::remove_firewall(&used.bridge, &peerings).await?;
        network::remove_link(&used.bridge).await?;
        claims::remove(state, &used.bridge)?;
    }
    LinuxNetwork::host().restore_forwarding(&claims::forwarding_file(state)).await?;
    let mut record = record(state)?;
    while let Some(part) = record.parts.last().cloned() {
        say(&part);
        take_back(&part, state).await?;
        record.parts.pop();
        write_record(state, &record)?;
    }
    if claims::read(state)?.is_empty() {
        return Ok(remove_tree(state)?);
    }
    // Clusters of root still have networks.
    let kept = [claims::lock_file(state), claims::forwarding_file(state), state.join("networks")];
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(|path| !kept.contains(path)) {
        match path.is_dir() {
            true => remove_tree(&path)?,
            false => remove_file(&path)?,
        }
    }
    Ok(())
}

async fn take_back(part: &Part, state: &Path) -> Result<(), Error> {
    match part {
        Part::Group => unless_gone(run("groupdel", &[GROUP]).await),
        Part::ProgramDir => {
            // Others may have put something there since.
            let _ = std::fs::remove_dir(program_dir());
            Ok(())
        }
        Part::Program => Ok(remove_file(Path::new(PROGRAM))?),
        Part::Grants => Ok(remove_file(&state.join(Grants::FILE))?),
        Part::Sudoers => Ok(remove_file(Path::new(SUDOERS))?),
        Part::Profile { .. } => apparmor::remove().await,
        Part::Member { user, group } => unless_gone(run("gpasswd", &["-d", user, group]).await),
        Part::SubIds { user, first } => {
            let range = range(*first);
            let args = ["--del-subuids", &range, "--del-subgids", &range, user];
            unless_gone(run("usermod", &args).await)
        }
    }
}

/// A user or group that was removed since took its part along.
fn unless_gone(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::Cmd(CmdError::Failed { tail, .. }))
            if ["does not exist", "is not a member", "unknown user"]
                .iter()
                .any(|words| tail.contains(words)) =>
        {
            Ok(())
        }
        result => result,
    }
}

async fn run(program: &str, args: &[&str]) -> Result<(), Error> {
    Cmd::new(program).args(args).run().await?;
    Ok(())
}
