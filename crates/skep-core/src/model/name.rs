//! Validated names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A name that breaks the rules of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{value}` is not a {kind}: {rule}")]
pub struct NameError {
    kind: &'static str,
    value: String,
    rule: &'static str,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:path, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if $check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError { kind: $kind, value: text.to_owned(), rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name_type!(
    /// The name of a cluster: a lower-case DNS label of at most 40 characters.
    ClusterName,
    "cluster name",
    is_cluster_name,
    "use 1 to 40 of a-z, 0-9 and `-`, starting and ending with a letter or digit"
);

name_type!(
    /// The name of a node, which is also its host name: a DNS label.
    ///
    /// Upper case is allowed, as in docker-machine's machine names.
    NodeName,
    "node name",
    is_node_name,
    "use 1 to 63 of a-z, A-Z, 0-9, `-` and `.`, starting and ending with a letter or digit"
);

name_type!(
    /// A DNS name that is entered into the host's /etc/hosts (RFC 1123).
    Hostname,
    "hostname",
    is_hostname,
    "use labels of a-z, 0-9 and `-` joined by dots, 253 characters at most, and not `localhost`"
);

impl NodeName {
    /// Returns `node<index>`, the name of a node that was given none.
    #[must_use]
    pub fn numbered(index: usize) -> Self {
        Self(format!("node{index}"))
    }
}

fn is_cluster_name(text: &str) -> bool {
    text.len() <= 40 && !text.contains(|c: char| c.is_ascii_uppercase()) && is_label(text)
}

fn is_node_name(text: &str) -> bool {
    text.len() <= 63 && text.split('.').all(is_label)
}

fn is_hostname(text: &str) -> bool {
    text.len() <= 253 && !text.eq_ignore_ascii_case("localhost") && text.split('.').all(is_label)
}

fn is_label(text: &str) -> bool {
    let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    (1..=63).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && alphanumeric(text.chars().next())
        && alphanumeric(text.chars().last())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn good_names_are_kept_as_they_are() {
        assert_eq!("demo-2".parse::<ClusterName>().unwrap().as_str(), "demo-2");
        assert_eq!("Node.1".parse::<NodeName>().unwrap().as_str(), "Node.1");
        assert_eq!("my-node.esgf.org".parse::<Hostname>().unwrap().as_str(), "my-node.esgf.org");
    }

    #[test]
    fn names_that_could_reach_a_path_a_shell_or_an_option_are_refused() {
        for bad in
            ["", ".", "..", "a/b", "-n", "a b", "a;b", "a\nb", "é", "a..b", "a-", &"x".repeat(64)]
        {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad:?}");
            assert!(bad.parse::<NodeName>().is_err(), "{bad:?}");
            assert!(bad.parse::<Hostname>().is_err(), "{bad:?}");
        }
        assert!("Demo".parse::<ClusterName>().is_err());
        assert!("localhost".parse::<Hostname>().is_err());
    }

    proptest! {
        /// So no renderer has to quote a name: not as a path, an option, a word of a shell, a key of
        /// a list of options, a word of a kernel's command line or a rule.
        #[test]
        fn whatever_is_a_name_is_a_plain_word_everywhere(
            text in prop_oneof!["\\PC{0,70}", "[-a-zA-Z0-9._/,=;$`\"'\n ]{1,12}", "[a-zA-Z0-9.-]{1,70}"],
        ) {
            let names = [
                text.parse::<ClusterName>().map(String::from),
                text.parse::<NodeName>().map(String::from),
                text.parse::<Hostname>().map(String::from),
            ];
            for name in names.into_iter().flatten() {
                prop_assert_eq!(&name, &text);
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
                prop_assert!(name.chars().all(plain));
                prop_assert!(!name.starts_with(['-', '.']) && !name.contains(".."));
                let path = std::path::Path::new(&name);
                prop_assert_eq!(path.file_name(), Some(name.as_ref()));
            }
        }
    }

    #[test]
    fn the_error_says_what_is_allowed() {
        let error = "my_cluster".parse::<ClusterName>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`my_cluster` is not a cluster name: use 1 to 40 of a-z, 0-9 and `-`, \
             starting and ending with a letter or digit"
        );
    }
}
