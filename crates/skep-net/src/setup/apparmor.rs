//! What lets skep have namespaces of users where AppArmor gives them to no program without a profile (Ubuntu from 23.10 on).
//!
//! Without them an ordinary user builds no image, has no `--net user`, and QEMU is not secluded. The profile confines
//! nothing: it only names the program, and the programs that this one starts, such as unshare(1), keep it.

use std::path::{Path, PathBuf};

use skep_sys::{Cmd, CmdError, FileError, read, remove_file, write_atomic};

use super::Error;

/// The profile.
pub const PROFILE: &str = "/etc/apparmor.d/skep";

/// The kernel's switch: 1 where a program needs a profile that allows namespaces of users.
const SWITCH: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

/// Tells whether AppArmor keeps programs without a profile from having namespaces of users.
#[must_use]
pub fn is_restricted() -> bool {
    std::fs::read_to_string(SWITCH).is_ok_and(|text| text.trim() == "1")
}

/// Returns this program's file, which the profile names.
pub(super) fn own_program() -> Result<PathBuf, FileError> {
    let own = Path::new("/proc/self/exe");
    std::fs::read_link(own).map_err(|error| FileError::new("read", own, error))
}

/// Returns a profile for a program (apparmor.d(5)).
#[must_use]
pub fn render_profile(program: &Path) -> String {
    // These have a meaning in a path of a profile, and so has the quote around it.
    let special = |c: char| "\\\"*?[]{}^@$".contains(c);
    let mut path = String::new();
    for c in program.to_string_lossy().chars() {
        if special(c) {
            path.push('\\');
        }
        path.push(c);
    }
    format!(
        "# Written by `skep setup`; `sudo skep setup --undo` removes it.\n\
         abi <abi/4.0>,\n\
         include <tunables/global>\n\
         \n\
         profile skep \"{path}\" flags=(unconfined) {{\n  \
           userns,\n\
         \n  \
           include if exists <local/skep>\n\
         }}\n"
    )
}

/// Tells whether the profile of a program is in place.
pub(super) fn is_in_place(program: &Path) -> bool {
    read(Path::new(PROFILE)).is_ok_and(|text| text == render_profile(program).into_bytes())
}

/// Writes the profile of a program and loads it. `state` is for a draft.
pub(super) async fn write(program: &Path, state: &Path) -> Result<(), Error> {
    let text = render_profile(program);
    // The service that loads all profiles at boot would stumble over one that is wrong.
    let draft = state.join("apparmor");
    write_atomic(&draft, 0o644, text.as_bytes())?;
    let checked = Cmd::new("apparmor_parser")
        .args(["--skip-kernel-load", "--skip-cache"])
        .arg(&draft)
        .run()
        .await;
    remove_file(&draft)?;
    checked.map_err(Error::Profile)?;
    write_atomic(Path::new(PROFILE), 0o644, text.as_bytes())?;
    let loaded = Cmd::new("apparmor_parser").args(["--replace", PROFILE]).run().await;
    loaded.map(drop).map_err(Error::Profile)
}

/// Unloads the profile and removes its file.
pub(super) async fn remove() -> Result<(), Error> {
    let file = Path::new(PROFILE);
    if !file.exists() {
        return Ok(());
    }
    match Cmd::new("apparmor_parser").args(["--remove", PROFILE]).run().await {
        // One that was not loaded, or is not any more, as after a restart with AppArmor switched off.
        Ok(_) | Err(CmdError::Failed { .. } | CmdError::NotFound { .. }) => {}
        Err(error) => return Err(Error::Profile(error)),
    }
    Ok(remove_file(file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_names_the_program_and_confines_nothing() {
        insta::assert_snapshot!(render_profile(Path::new("/usr/local/my bin/skep{1}")));
    }
}
