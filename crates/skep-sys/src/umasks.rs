//! Tests under other umasks: one is the whole process's, so the test runs in processes of its own.

use std::process::Command;

/// Runs another test of this program under several umasks.
///
/// # Panics
///
/// If it fails under one of them, or there is no such test.
pub fn run(test: &str) {
    for umask in ["0000", "0022", "0077", "0177"] {
        let program = std::env::current_exe().expect("this program has a file");
        let mut command = Command::new("sh");
        command.args(["-c", r#"umask "$1"; shift; exec "$@""#, "sh", umask]);
        let output = command.arg(program).args(["--exact", test]).output().expect("sh is there");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "umask {umask}: {said}");
    }
}
