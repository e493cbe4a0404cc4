//! Names, and words of a list.

use std::fmt::Display;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;
use serde_json::{Value as Json, json};
use skep_core::model::{Availability, ClusterName, Hostname, NodeName, Role};

use super::{Kind, text};
use crate::cli::ResolveImage;
use crate::file::problem::{Problems, advice, quoted};
use crate::file::spec::{DRIVERS, SSH};
use crate::file::tree::Node;

impl Kind for ClusterName {
    type Value = Self;

    fn schema() -> Json {
        json!({"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"})
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        parsed(node, "a cluster name", problems)
    }
}

impl Kind for NodeName {
    type Value = Self;

    fn schema() -> Json {
        json!({"type": "string", "pattern": labels(), "maxLength": 63})
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        parsed(node, "a node name", problems)
    }
}

impl Kind for Hostname {
    type Value = Self;

    fn schema() -> Json {
        json!({"type": "string", "pattern": labels(), "maxLength": 253})
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        parsed(node, "a hostname", problems)
    }
}

/// Returns the pattern of DNS labels joined by dots.
fn labels() -> String {
    let label = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
    format!(r"^{label}(\.{label})*$")
}

fn parsed<T: FromStr<Err: Display>>(
    node: &Node,
    expected: &str,
    problems: &mut Problems,
) -> Option<T> {
    let value = text(node, expected, problems)?.parse();
    value.map_err(|error| problems.report(node.at, error)).ok()
}

impl Kind for Role {
    type Value = Self;

    fn schema() -> Json {
        json!({"enum": [Self::Manager.as_str(), Self::Worker.as_str()]})
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let roles = [Self::Manager, Self::Worker];
        let word = one_of(node, &roles.map(Self::as_str), "role", problems)?;
        roles.into_iter().find(|role| role.as_str() == word)
    }
}

impl Kind for Availability {
    type Value = Self;

    fn schema() -> Json {
        json!({"enum": ["active", "pause", "drain"]})
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let word = one_of(node, &["active", "pause", "drain"], "availability", problems)?;
        Self::from_word(word)
    }
}

impl Kind for ResolveImage {
    type Value = Self;

    fn schema() -> Json {
        json!({"enum": Self::ALL.map(Self::as_str)})
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let word = one_of(node, &Self::ALL.map(Self::as_str), "choice", problems)?;
        Self::ALL.into_iter().find(|when| when.as_str() == word)
    }
}

/// The kind of machines, by any of the names that are understood.
pub struct Driver;

impl Kind for Driver {
    type Value = &'static str;

    fn schema() -> Json {
        json!({"enum": known_drivers()})
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<&'static str> {
        one_of(node, &known_drivers(), "driver", problems)
    }
}

fn known_drivers() -> Vec<&'static str> {
    DRIVERS.iter().copied().chain([SSH]).collect()
}

impl Kind for Ipv4Addr {
    type Value = Self;

    fn schema() -> Json {
        json!({"type": "string", "format": "ipv4"})
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let text = text(node, "an IPv4 address", problems)?;
        let parsed = text.parse();
        if parsed.is_err() {
            problems.report(node.at, format_args!("{} is not an IPv4 address", quoted(text)));
        }
        parsed.ok()
    }
}

fn one_of(
    node: &Node,
    words: &[&'static str],
    what: &str,
    problems: &mut Problems,
) -> Option<&'static str> {
    let text = text(node, &format!("one of {}", words.join(", ")), problems)?;
    let found = words.iter().find(|word| **word == text).copied();
    if found.is_none() {
        let text_and = format!("{} is not a {what}; {}", quoted(text), advice(text, words));
        problems.report(node.at, text_and);
    }
    found
}

impl Kind for Ipv4Net {
    type Value = Self;

    fn schema() -> Json {
        json!({
            "type": "string",
            "pattern": "^([0-9]{1,3}\\.){3}[0-9]{1,3}/([89]|1[0-9]|2[0-9])$",
            "examples": ["10.20.0.0/24"],
        })
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let text = text(node, "a subnet such as 10.20.0.0/24", problems)?;
        match text.parse::<Self>() {
            Ok(subnet) if subnet != subnet.trunc() => {
                let start = subnet.trunc();
                problems.report(
                    node.at,
                    format_args!("{subnet} is not the start of a subnet; use {start}"),
                );
            }
            Ok(subnet) if (8..=29).contains(&subnet.prefix_len()) => return Some(subnet),
            Ok(subnet) => problems.report(
                node.at,
                format_args!("the subnet {subnet} does not fit; use a prefix of /8 to /29"),
            ),
            Err(_) => {
                let text = quoted(text);
                let message =
                    format_args!("{text} is not an IPv4 subnet; use one such as 10.20.0.0/24");
                problems.report(node.at, message);
            }
        }
        None
    }
}
