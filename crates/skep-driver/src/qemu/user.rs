//! The user that a machine's process becomes, so that it is not root and not another machine.

use std::net::Ipv4Addr;
use std::path::Path;

/// The first of these users' numbers. Nobody has them in any list of users, and nothing gives them out:
/// they lie above what containers are given and below what does not fit a signed number (systemd's
/// UIDS-GIDS.md lists who takes which).
const FIRST: u32 = 0x7000_0000;

/// The last of them.
const LAST: u32 = FIRST | 0x00ff_ffff;

/// The first and the last of the users and groups that machines become.
pub const MACHINE_USERS: (u32, u32) = (FIRST, LAST);

/// Returns the number of the user and group that the machine with this address becomes; none if skep is
/// not root, as then the machine is its user's, or if this host, itself a container, has no such users.
pub(super) fn user_of(address: Ipv4Addr) -> Option<u32> {
    let id = number(address);
    (skep_sys::is_root() && is_mapped(id)).then_some(id)
}

/// Tells whether machines of root have users of their own on this host. In a container without them they stay root, and
/// nothing keeps them from its files.
#[must_use]
pub fn has_users() -> bool {
    is_mapped(FIRST) && is_mapped(LAST)
}

/// Tells whether a user and group of this number exist here: a container has only some.
fn is_mapped(id: u32) -> bool {
    ["uid_map", "gid_map"].iter().all(|map| {
        let text = std::fs::read_to_string(Path::new("/proc/self").join(map));
        text.is_ok_and(|text| has(&text, id))
    })
}

/// Tells whether a process of that user may be a machine's: root's machines are root until they have opened
/// their files.
pub(super) fn may_be_a_machines(user: u32) -> bool {
    let own = rustix::process::geteuid().as_raw();
    user == own || own == 0 && user >= FIRST
}

/// Machines of one host have different addresses, so this is a machine's own unless somebody chose two
/// subnets that differ only in their first number.
fn number(address: Ipv4Addr) -> u32 {
    FIRST | (u32::from(address) & 0x00ff_ffff)
}

/// Tells whether a map of a user namespace has a number (user_namespaces(7)).
fn has(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        id.checked_sub(first).is_some_and(|at| at < count)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_different_users() {
        assert_eq!(number([10, 193, 0, 2].into()), 1_891_696_642);
        assert_ne!(number([10, 193, 0, 2].into()), number([10, 193, 0, 3].into()));
    }

    #[test]
    fn a_container_has_the_users_of_its_map_only() {
        let id = number([10, 193, 0, 2].into());
        assert!(has("         0          0 4294967295\n", id));
        assert!(!has("         0     100000      65536\n", id));
        assert!(!has("", id));
    }
}
