//! How a test says that it cannot run here. It is the only way: `cargo xtask tidy` looks for others.
//!
//! A test that skips itself passes, so where every test is to run it must fail instead: with `SKEP_REQUIRE_VM=1`, which
//! `scripts/test` sets.

use std::io::Write as _;

/// Says that this test, or a part of it, cannot run here; the caller then returns.
///
/// # Panics
///
/// If `SKEP_REQUIRE_VM=1` says that every test must run.
pub fn skip(reason: &str) {
    let required = std::env::var("SKEP_REQUIRE_VM").is_ok_and(|value| value == "1");
    assert!(!required, "SKEP_REQUIRE_VM=1, and this test cannot run here: {reason}");
    // Not eprintln!(), whose output of a test that passes is never seen.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    /// Is set in a process that plays a test which cannot run.
    const SKIPS: &str = "SKEP_TEST_SKIPS";

    #[test]
    fn a_skipped_test_passes_and_says_so_unless_every_test_must_run() {
        if std::env::var_os(SKIPS).is_some() {
            return super::skip("there is no reason");
        }
        let run = |required: &str| {
            let mut test = Command::new(std::env::current_exe().unwrap());
            test.args([
                "--exact",
                "tests::a_skipped_test_passes_and_says_so_unless_every_test_must_run",
            ]);
            test.env(SKIPS, "1").env("SKEP_REQUIRE_VM", required).output().unwrap()
        };
        let (skipped, failed) = (run("0"), run("1"));
        let said = String::from_utf8_lossy(&skipped.stderr);
        assert!(skipped.status.success() && said.contains("SKIPPED: there is no reason"), "{said}");
        let said = String::from_utf8_lossy(&failed.stdout);
        assert!(!failed.status.success() && said.contains("there is no reason"), "{said}");
    }
}
