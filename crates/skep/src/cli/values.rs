//! Values on the command line: what does not parse is answered with what to write, and an example.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Reads how many of something.
pub(crate) fn count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "write a whole number, for example 3".to_owned())
}

/// Reads how many of something there are, at least one.
pub(crate) fn some(text: &str) -> Result<u32, String> {
    match count(text)? {
        0 => Err("write a whole number from 1 on, for example 3".to_owned()),
        number => Ok(number),
    }
}

/// Reads a TCP port.
pub(crate) fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err("write a port from 1 to 65535, for example 8080".to_owned()),
    }
}

/// Reads a subnet.
pub(crate) fn subnet(text: &str) -> Result<Ipv4Net, String> {
    text.parse().map_err(|_| "write an IPv4 subnet, for example 10.20.0.0/24".to_owned())
}

/// Reads an address.
pub(crate) fn address(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| "write an IPv4 address, for example 192.0.2.7".to_owned())
}
