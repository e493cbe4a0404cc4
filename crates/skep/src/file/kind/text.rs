//! Texts that obey a rule.

use std::time::Duration;

use serde_json::{Value as Json, json};
use skep_core::model::TrustedRegistry;

use super::{Kind, Resolved, report_other, scalar, text};
use crate::cli::parse_duration;
use crate::file::problem::{Problems, quoted};
use crate::file::tree::Node;

macro_rules! text_kind {
    ($(#[$doc:meta])* $kind:ident: $what:literal, $pattern:literal, $check:expr, $rule:literal) => {
        $(#[$doc])*
        pub struct $kind;

        impl Kind for $kind {
            type Value = String;

            fn schema() -> Json {
                json!({"type": "string", "pattern": $pattern})
            }

            fn read(node: &Node, problems: &mut Problems) -> Option<String> {
                let text = text(node, $what, problems)?;
                let fits: fn(&str) -> bool = $check;
                if !text.contains(char::is_control) && fits(text) {
                    return Some(text.to_owned());
                }
                problems.report(node.at, format_args!("{} is not {}; {}", quoted(text), $what, $rule));
                None
            }
        }
    };
}

text_kind!(
    /// A word that is no option and no list: a package, or a suite.
    Word: "a name", "^[A-Za-z0-9][^\\s,]*$",
    |text| text.starts_with(|c: char| c.is_ascii_alphanumeric()) && !has_blank_or(',', text),
    "start with a letter or digit, and use no spaces or commas"
);

text_kind!(
    /// A URL.
    Url: "a URL", "^[a-z][a-z0-9+.-]*://\\S+$",
    |text| {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
            && !rest.is_empty()
            && !text.contains(char::is_whitespace)
    },
    "write one such as https://deb.debian.org/debian"
);

text_kind!(
    /// A line of sources.list(5).
    AptLine: "an apt source", "^deb +\\S.*$",
    |text| text.strip_prefix("deb ").is_some_and(|rest| !rest.trim().is_empty()),
    "write a line such as `deb https://deb.debian.org/debian trixie main`"
);

text_kind!(
    /// A path on the host.
    FilePath: "a path", "^.+$", |text| !text.is_empty(), "name a file"
);

text_kind!(
    /// A reference, or the path of an archive or layout.
    ImageName: "an image", "^[^\\s-]\\S*$",
    |text| !text.is_empty() && !text.starts_with('-') && !text.contains(char::is_whitespace),
    "write a reference such as nginx:latest, or a path such as ./app.tar"
);

text_kind!(
    /// A registry as references of images name it.
    RegistryName: "the name of a registry", "^[A-Za-z0-9.-]+(:[0-9]+)?$",
    TrustedRegistry::is_name, "write one such as hub.example:5000"
);

text_kind!(
    /// A user of a host.
    User: "a user", "^[^-\\s@][^\\s@]*$",
    |text| !text.is_empty() && !text.starts_with('-') && !has_blank_or('@', text),
    "use no spaces or `@`, and do not start with `-`"
);

text_kind!(
    /// The key of a label.
    LabelKey: "a label's key", "^[^\\s=]+$",
    |text| !text.is_empty() && !has_blank_or('=', text),
    "use at least one character, and no spaces or `=`"
);

fn has_blank_or(other: char, text: &str) -> bool {
    text.contains(|c: char| c.is_whitespace() || c == other)
}

/// A time such as 90s.
pub struct Time;

impl Kind for Time {
    type Value = Duration;

    fn schema() -> Json {
        json!({"type": "string", "pattern": "^[0-9]+[smh]$"})
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Duration> {
        let text = text(node, "a time such as 90s, 5m or 1h", problems)?;
        // A number without a unit is a number to YAML, and not in the schema.
        let time =
            parse_duration(text).map_err(|rule| format!("{} is not a time; {rule}", quoted(text)));
        time.map_err(|message| problems.report(node.at, message)).ok()
    }
}

/// The value of a label: a text, or a number or truth value as it is written.
pub struct LabelValue;

impl Kind for LabelValue {
    type Value = String;

    fn schema() -> Json {
        json!({"type": ["string", "number", "boolean"]})
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<String> {
        let kinds = [Resolved::Text, Resolved::Number, Resolved::Bool];
        let text = kinds.into_iter().find_map(|kind| scalar(node, kind));
        if text.is_none() {
            report_other(node, "text (\"\" if it is empty)", problems);
        }
        text.map(str::to_owned)
    }
}
