//! Words for shells.

/// Returns a text as one word of a POSIX shell (Shell Command Language, 2.2.2).
#[must_use]
pub fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
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
}
