//! Which nodes are meant: one by its name, one by its place among its kind, or many.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::{NodeName, Role};

/// Nodes of a cluster: `NAME`, `worker:0`, `manager:0-2`, `worker:*`, `worker`, `all`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeFilter {
    /// Every node.
    All,
    /// Every node with this part, or those from one place to another among them, counted from 0.
    OfRole(Role, Option<(usize, usize)>),
    /// The node of that name.
    Named(NodeName),
}

/// A text that is no filter, or one that nothing fits.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FilterError {
    /// It cannot be read.
    #[error(
        "`{0}` is not a node filter; use a name, worker:0, manager:0-2, worker:*, worker or all"
    )]
    Unreadable(String),
    /// No node fits.
    #[error("no node {filter}; the nodes are {known}")]
    Nobody {
        /// The filter.
        filter: String,
        /// The nodes that exist, joined by commas.
        known: String,
    },
}

impl FromStr for NodeFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let unreadable = || FilterError::Unreadable(text.to_owned());
        let (word, place) = match text.split_once(':') {
            Some((word, place)) => (word, Some(place)),
            None => (text, None),
        };
        let role = match word {
            "all" | "*" if matches!(place, None | Some("*")) => return Ok(Self::All),
            "manager" => Role::Manager,
            "worker" => Role::Worker,
            _ => return text.parse().map(Self::Named).map_err(|_| unreadable()),
        };
        let number = |text: &str| text.parse::<usize>().map_err(|_| unreadable());
        let places = match place {
            None | Some("*") => None,
            Some(place) => Some(match place.split_once('-') {
                Some((from, to)) => (number(from)?, number(to)?),
                None => (number(place)?, number(place)?),
            }),
        };
        match places {
            Some((from, to)) if from > to => Err(unreadable()),
            _ => Ok(Self::OfRole(role, places)),
        }
    }
}

impl fmt::Display for NodeFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Named(name) => name.fmt(f),
            Self::OfRole(role, None) => write!(f, "{}:*", role.as_str()),
            Self::OfRole(role, Some((from, to))) if from == to => {
                write!(f, "{}:{from}", role.as_str())
            }
            Self::OfRole(role, Some((from, to))) => write!(f, "{}:{from}-{to}", role.as_str()),
        }
    }
}

impl NodeFilter {
    /// Returns those of these nodes that are meant, in their order.
    ///
    /// # Errors
    ///
    /// If a place or a name is not there. Every worker may be none.
    pub fn select(&self, nodes: &[(NodeName, Role)]) -> Result<Vec<NodeName>, FilterError> {
        let names: Vec<NodeName> = match self {
            Self::All => nodes.iter().map(|(name, _)| name.clone()).collect(),
            Self::Named(wanted) => {
                nodes.iter().map(|(name, _)| name).filter(|name| *name == wanted).cloned().collect()
            }
            Self::OfRole(role, places) => {
                let of_role = nodes.iter().filter(|(_, it)| it == role);
                let (from, to) = places.unwrap_or((0, usize::MAX));
                let chosen = of_role.enumerate().filter(|(at, _)| (from..=to).contains(at));
                chosen.map(|(_, (name, _))| name.clone()).collect()
            }
        };
        let may_be_empty = matches!(self, Self::All | Self::OfRole(_, None));
        match names.is_empty() && !may_be_empty {
            true => {
                let known: Vec<_> = nodes.iter().map(|(name, _)| name.as_str()).collect();
                let (filter, known) = (self.to_string(), known.join(", "));
                Err(FilterError::Nobody { filter, known })
            }
            false => Ok(names),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(filter: &str) -> Result<String, String> {
        let nodes: Vec<(NodeName, Role)> = "mwmww"
            .chars()
            .enumerate()
            .map(|(at, role)| {
                let role = if role == 'm' { Role::Manager } else { Role::Worker };
                (NodeName::numbered(at), role)
            })
            .collect();
        let filter: NodeFilter = filter.parse().map_err(|error: FilterError| error.to_string())?;
        let names = filter.select(&nodes).map_err(|error| error.to_string())?;
        Ok(names.iter().map(NodeName::as_str).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn filters_mean_nodes() {
        for (filter, nodes) in [
            ("all", "node0 node1 node2 node3 node4"),
            ("*", "node0 node1 node2 node3 node4"),
            ("node3", "node3"),
            ("manager", "node0 node2"),
            ("worker:*", "node1 node3 node4"),
            ("worker:0", "node1"),
            ("worker:1-2", "node3 node4"),
            ("manager:1-9", "node2"),
        ] {
            assert_eq!(select(filter).as_deref(), Ok(nodes), "{filter}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for bad in
            ["", "worker:", "worker:x", "worker:2-1", "a/b", "all:1", "agent:*", "worker:0,1"]
        {
            assert!(select(bad).unwrap_err().contains("is not a node filter"), "{bad}");
        }
        let error = select("manager:2").unwrap_err();
        assert_eq!(error, "no node manager:2; the nodes are node0, node1, node2, node3, node4");
        assert!(select("node9").unwrap_err().starts_with("no node node9;"));
    }
}
