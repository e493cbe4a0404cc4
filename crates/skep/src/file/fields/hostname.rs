//! Names for this host's /etc/hosts.

use serde_json::{Value as Json, json};
use skep_core::model::{Hostname, HostnameSpec, NodeName};

use super::{Field, Kind, Node, Problems, Section, Value, field, text};
use crate::file::spec::parse_hostname;

#[derive(Default)]
struct HostnameEntry {
    name: Option<Hostname>,
    node: Option<NodeName>,
}

impl Section for HostnameEntry {
    const FIELDS: &'static [Field<Self>] = &[
        field!("name": Hostname => name, required, "The name."),
        field!("node": NodeName => node, otherwise("the first manager"), "Node that the name points to."),
    ];
}

impl Kind for HostnameSpec {
    type Value = Self;

    fn schema() -> Json {
        let text = json!({"type": "string", "description": "NAME, NAME@NODE or NAME@*"});
        json!({"anyOf": [text, HostnameEntry::schema()]})
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        if let Value::Map(_) = node.value {
            let HostnameEntry { name, node } = HostnameEntry::read(node, problems)?;
            return Some(Self { name: name?, node, follow: false });
        }
        let text = text(node, "NAME, NAME@NODE or a map with name and node", problems)?;
        parse_hostname(text).map_err(|error| problems.report(node.at, error)).ok()
    }
}
