//! An emulator that does not work is told with a way out before anything is made. No machine is started here.

use std::fs;

use skep_testkit::home::{Home, finish};

const SKEP: &str = env!("CARGO_BIN_EXE_skep");

#[test]
fn a_broken_qemu_is_told_before_anything_is_made() {
    use std::os::unix::fs::PermissionsExt;
    let fakes = [
        (
            "#!/bin/sh\necho 'symbol lookup error: undefined symbol' >&2; exit 127\n",
            0o755,
            "symbol lookup error",
        ),
        ("#!/bin/sh\necho something else\n", 0o755, "something else"),
        ("#!/bin/sh\necho 'QEMU emulator version 4.2.1'\n", 0o755, "at least 7.2"),
        ("#!/bin/sh\nkill -SEGV $$\n", 0o755, "signal: 11"),
        ("no program at all", 0o755, "qemu-system-x86_64"),
    ];
    for (script, mode, told) in fakes {
        let home = Home::new(SKEP);
        let bin = home.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let fake = bin.join("qemu-system-x86_64");
        fs::write(&fake, script).unwrap();
        fs::set_permissions(&fake, fs::Permissions::from_mode(mode)).unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        let mut up = home.command(["up", "demo", "-n", "1"]);
        let said = finish(up.env("PATH", &path).env("XDG_CACHE_HOME", home.path().join("cache")));
        let text = format!("{}{}", said.stdout, said.stderr);
        assert_eq!(said.code, 3, "{text}");
        assert!(text.contains(told) && text.contains("this host is not ready"), "{script}: {text}");
        assert!(!home.cluster("demo").exists(), "nothing is made");
        let mut doctor = home.command(["doctor"]);
        let said = finish(doctor.env("PATH", &path));
        let bad =
            said.stdout.lines().find(|line| line.starts_with("failed") && line.contains("QEMU"));
        assert!(said.code == 3 && bad.is_some(), "{script}: {}{}", said.stdout, said.stderr);
    }
}
