//! The kernel's switch for forwarding packets between interfaces (ip-sysctl, `ip_forward`).

use std::path::Path;

use super::Error;
use crate::sys::{FileError, make_private_dir, write_atomic};

/// The switch.
pub(super) const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";

/// Switches forwarding on. That it was off is written down before.
pub(super) fn ensure(switch: &Path, state: &Path) -> Result<(), Error> {
    let present = crate::sys::read(switch)?;
    if present.first() == Some(&b'1') {
        return Ok(());
    }
    if let Some(dir) = state.parent() {
        make_private_dir(dir)?;
    }
    write_atomic(state, 0o600, b"{\"ip_forward\": 0}\n")?;
    set(switch, "1")
}

/// Puts the switch back to what it was before skep touched it.
pub(super) fn restore(switch: &Path, state: &Path) -> Result<(), Error> {
    if !state.exists() {
        return Ok(());
    }
    set(switch, "0")?;
    std::fs::remove_file(state).map_err(|source| FileError::new("remove", state, source).into())
}

fn set(switch: &Path, value: &str) -> Result<(), Error> {
    // Not through write_atomic: what is in /proc is no file to be replaced.
    std::fs::write(switch, value).map_err(|source| FileError::new("write", switch, source).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_skep_switched_on_is_switched_off() {
        let dir = tempfile::tempdir().unwrap();
        let (switch, state) = (dir.path().join("switch"), dir.path().join("home/state"));
        for before in ["0\n", "1\n"] {
            std::fs::write(&switch, before).unwrap();
            ensure(&switch, &state).unwrap();
            ensure(&switch, &state).unwrap();
            assert_eq!(std::fs::read_to_string(&switch).unwrap().trim(), "1");
            restore(&switch, &state).unwrap();
            restore(&switch, &state).unwrap();
            assert_eq!(std::fs::read_to_string(&switch).unwrap().trim(), before.trim());
            assert!(!state.exists());
        }
    }
}
