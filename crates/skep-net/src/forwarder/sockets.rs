//! Which process listens where, as the kernel shows it.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

/// The state of a socket that listens (proc_net(5), include/net/tcp_states.h).
const LISTENS: &str = "0A";

/// Returns the IPv4 addresses on which a process listens. It has to be a process of this user, or this user root.
pub(super) fn listeners_of(pid: u32) -> BTreeSet<SocketAddrV4> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let own: BTreeSet<String> = links
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    listening(&table).filter(|(_, inode)| own.contains(*inode)).map(|(at, _)| at).collect()
}

/// Returns the addresses of sockets that listen, each with its inode. Addresses are in the host's order of bytes.
fn listening(table: &str) -> impl Iterator<Item = (SocketAddrV4, &str)> {
    table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (address, port) = words.get(1)?.split_once(':')?;
        let address = Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_ne_bytes());
        let at = SocketAddrV4::new(address, u16::from_str_radix(port, 16).ok()?);
        (words.get(3) == Some(&LISTENS)).then_some((at, *words.get(9)?))
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_own_listeners_count() {
        let own = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let std::net::SocketAddr::V4(at) = own.local_addr().unwrap() else { panic!() };
        assert!(listeners_of(std::process::id()).contains(&at));
        assert!(!listeners_of(1).contains(&at), "it is not that process's");
        drop(own);
        assert!(!listeners_of(std::process::id()).contains(&at));
    }

    #[test]
    fn the_kernels_table_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1 x\n\
             1: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000 0 0 4712 1 x\n\
             2: broken\n";
        let found: Vec<_> = listening(table).collect();
        assert_eq!(found, [("127.0.0.1:8080".parse().unwrap(), "4711")]);
    }
}
