//! What programs that skep starts find in their environment: what its caller gave, but for what was said at the start.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// Where programs for administrators are, which the path of an ordinary user leaves out.
const ADMIN: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// A variable, and its value; none if programs do not get it.
pub type Variable = (OsString, Option<OsString>);

/// How the environment of programs differs from our own, which is as process-wide as that is.
static CHANGES: OnceLock<Vec<Variable>> = OnceLock::new();

/// Where programs are looked for, if it was said.
static SEARCH_PATH: OnceLock<OsString> = OnceLock::new();

/// Lets programs be found where this search path says, and then where those for administrators are. Said
/// once; without it they are found as their caller would find them.
pub fn search_in(path: OsString) {
    let _ = SEARCH_PATH.set(path_with_admin(path));
}

/// Returns where programs are looked for; the usual places if it was not said.
#[must_use]
pub fn search_path() -> OsString {
    let usual = || path_with_admin("/usr/local/bin:/usr/bin:/bin".into());
    SEARCH_PATH.get().cloned().unwrap_or_else(usual)
}

/// Lets programs have these variables otherwise than we do. Said once, and before the first of them is started; what one
/// program is given for itself wins.
pub fn change_environment(changes: Vec<Variable>) {
    let _ = CHANGES.set(changes);
}

/// Gives a program its environment, and the language in which we read what programs say.
pub(super) fn prepare(command: &mut Command) {
    change(command);
    command.env("LC_ALL", "C");
    if let Some(path) = SEARCH_PATH.get() {
        command.env("PATH", path);
    }
}

/// Gives a program that the user talks to its environment.
pub(super) fn change(command: &mut Command) {
    for (name, value) in CHANGES.get().into_iter().flatten() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

/// Returns a search path to which the places of programs for administrators are added.
fn path_with_admin(mut path: OsString) -> OsString {
    let missing = |dir: &&str| !std::env::split_paths(&path).any(|it| it == Path::new(dir));
    let missing: Vec<_> = ADMIN.split(':').filter(missing).collect();
    for dir in missing {
        if !path.is_empty() {
            path.push(":");
        }
        path.push(dir);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_for_administrators_are_found_after_all_others() {
        let path = |text: &str| path_with_admin(text.into()).into_string().unwrap();
        assert_eq!(path("/opt:/bin"), "/opt:/bin:/usr/local/sbin:/usr/sbin:/sbin");
        assert_eq!(path("/sbin:/bin"), "/sbin:/bin:/usr/local/sbin:/usr/sbin");
        assert_eq!(path(""), "/usr/local/sbin:/usr/sbin:/sbin");
    }

    #[tokio::test]
    async fn programs_have_what_was_said_and_what_is_given_to_one_wins() {
        change_environment(vec![
            ("SKEP_TEST_A".into(), Some("said".into())),
            ("SKEP_TEST_B".into(), Some("said".into())),
            ("CARGO_PKG_NAME".into(), None),
        ]);
        let script = "echo $SKEP_TEST_A $SKEP_TEST_B ${CARGO_PKG_NAME-none}";
        let program = crate::Cmd::new("sh").args(["-c", script]).env("SKEP_TEST_B", "given");
        assert_eq!(program.run().await.unwrap().text(), "said given none");
        let mut attached = Command::new("sh");
        change(attached.args(["-c", script]));
        assert_eq!(attached.output().unwrap().stdout, b"said said none\n");
    }
}
