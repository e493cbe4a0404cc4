//! The file that lets members of the group run the copy of skep.
//!
//! There are two programs by the name of sudo. The one in C has settings by which its administrator may have it want a
//! terminal or record requests, both of which would break skep-net. sudo-rs has none of that, and refuses all requests of a
//! host over a file with a setting that it does not know. So each such setting is written only if the visudo of the
//! sudo that is installed takes it.

use std::path::Path;

use skep_sys::{Cmd, CmdError, read, remove_file, write_atomic};

use super::{Error, GROUP, SUDOERS};
use crate::privileged_helper::{PATH, PROGRAM};

/// Settings that one sudo has and the other does not need: no terminal is asked for, and no record of requests comes
/// between the two ends of the socket.
const OPTIONAL: [&str; 3] = ["!requiretty", "!log_input", "!log_output"];

/// Returns what is to be in the file: no arguments, and no choice of what programs are found.
#[must_use]
pub fn render_sudoers(settings: &[&str]) -> String {
    let optional = settings.iter().map(|setting| format!("Defaults!{PROGRAM} {setting}\n"));
    format!(
        "# Written by `skep setup`; `sudo skep setup --undo` removes it.\n\
         Defaults!{PROGRAM} env_reset\n\
         Defaults!{PROGRAM} secure_path=\"{PATH}\"\n\
         {}\
         %{GROUP} ALL=(root) NOPASSWD: {PROGRAM} \"\"\n",
        optional.collect::<String>()
    )
}

/// Tells whether the file is in place, and the sudo that is installed takes it: it may be another one by now.
pub(super) async fn is_in_place() -> bool {
    let file = Path::new(SUDOERS);
    let text = read(file).ok().and_then(|text| String::from_utf8(text).ok());
    text.is_some_and(|text| is_rendered(&text)) && check(file).await.is_ok()
}

/// Tells whether a file is as skep writes it for one sudo or another.
fn is_rendered(text: &str) -> bool {
    let own = |setting: &&&str| text.contains(&format!("Defaults!{PROGRAM} {setting}\n"));
    let settings: Vec<&str> = OPTIONAL.iter().filter(own).copied().collect();
    text == render_sudoers(&settings)
}

/// Writes the file with the settings that the sudo that is installed takes. `state` is for drafts.
pub(super) async fn write(state: &Path) -> Result<(), Error> {
    // A file that sudo does not understand would keep everybody from using it.
    let draft = state.join("sudoers");
    let mut settings = Vec::new();
    for setting in OPTIONAL {
        settings.push(setting);
        write_atomic(&draft, 0o440, render_sudoers(&settings).as_bytes())?;
        if check(&draft).await.is_err() {
            settings.pop();
        }
    }
    let text = render_sudoers(&settings);
    write_atomic(&draft, 0o440, text.as_bytes())?;
    let checked = check(&draft).await;
    remove_file(&draft)?;
    checked.map_err(Error::Sudoers)?;
    Ok(write_atomic(Path::new(SUDOERS), 0o440, text.as_bytes())?)
}

async fn check(file: &Path) -> Result<(), CmdError> {
    Cmd::new("visudo").args(["-c", "-q", "-f"]).arg(file).run().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sudo_is_told_no_more_than_needed() {
        insta::assert_snapshot!(render_sudoers(&OPTIONAL));
    }

    #[test]
    fn a_file_for_either_sudo_is_known_and_no_other() {
        assert!(is_rendered(&render_sudoers(&OPTIONAL)) && is_rendered(&render_sudoers(&[])));
        assert!(is_rendered(&render_sudoers(&["!log_input"])));
        let more = render_sudoers(&[]).replace("NOPASSWD: ", "NOPASSWD: ALL, ");
        assert!(!is_rendered(&more) && !is_rendered(""));
    }
}
