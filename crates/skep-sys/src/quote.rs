//! Words for shells and for ssh(1).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// Returns a text as one word of a POSIX shell (Shell Command Language, 2.2.2).
#[must_use]
pub fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Returns a path as ssh(1) takes it where a percent sign begins a token (ssh_config(5), TOKENS).
pub fn ssh_path(path: impl AsRef<OsStr>) -> OsString {
    escaped(path.as_ref(), b"%", b'%')
}

/// Returns a path as one word of a value in ssh_config(5), where blanks take words apart and a backslash escapes quotes.
pub fn ssh_word(path: impl AsRef<OsStr>) -> OsString {
    let mut word = OsString::from("\"");
    word.push(escaped(&ssh_path(path), b"\"\\", b'\\'));
    word.push("\"");
    word
}

/// Puts a byte before each of some bytes.
fn escaped(text: &OsStr, special: &[u8], before: u8) -> OsString {
    let bytes = text.as_bytes().iter();
    let escaped = bytes.flat_map(|byte| {
        special.contains(byte).then_some(before).into_iter().chain(std::iter::once(*byte))
    });
    OsString::from_vec(escaped.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_shell_reads_the_text_back() {
        let text = "it's $HOME \\ \"x\"\n*";
        let script = format!("printf %s {}", shell_quoted(text));
        let output = crate::Cmd::new("sh").args(["-c", &script]).run().await.unwrap();
        assert_eq!(output.stdout, text.as_bytes());
    }

    #[tokio::test]
    async fn ssh_reads_the_path_back() {
        for path in ["/a b/it's", "/100%/%d", "/\"q\"/\\x", "/a,b;c"] {
            let mut option = OsString::from("UserKnownHostsFile=");
            option.push(ssh_word(path));
            option.push(" /other");
            let ssh = crate::Cmd::new("ssh").args(["-G", "-F", "/dev/null", "-o"]).arg(option);
            let said = ssh.arg("host").run().await.unwrap().text();
            let line = format!("userknownhostsfile {path} /other");
            assert!(said.lines().any(|it| it == line), "{path}: {said}");
        }
        assert_eq!(ssh_path("/100%/a b"), "/100%%/a b");
    }
}
