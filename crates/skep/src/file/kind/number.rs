//! Numbers and sizes.

use serde_json::{Value as Json, json};
use skep_core::model::Size;

use super::{Kind, Resolved, describe, is_null, report_other, scalar};
use crate::file::VERSION;
use crate::file::problem::Problems;
use crate::file::tree::{Node, Value};

/// A whole number in decimal digits, within bounds.
pub struct Whole<const LEAST: u32, const MOST: u32>;

impl<const LEAST: u32, const MOST: u32> Kind for Whole<LEAST, MOST> {
    type Value = u32;

    fn schema() -> Json {
        json!({"type": "integer", "minimum": LEAST, "maximum": MOST})
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<u32> {
        let number = scalar(node, Resolved::Number).and_then(|text| text.parse().ok());
        let number = number.filter(|number| (LEAST..=MOST).contains(number));
        if number.is_none() {
            report_other(node, &format!("a whole number from {LEAST} to {MOST}"), problems);
        }
        number
    }
}

/// A size of at least so many MiB.
pub struct SizeFrom<const MIB: u64>;

impl<const MIB: u64> Kind for SizeFrom<MIB> {
    type Value = Size;

    fn schema() -> Json {
        json!({
            "type": "string",
            "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*[KkMmGgTt]([Ii]?[Bb])?\s*$",
            "examples": ["512MiB", "2GiB"],
        })
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Size> {
        let least = Size::mib(MIB);
        let Value::Scalar(scalar) = &node.value else {
            report_other(node, "a size such as 2GiB", problems);
            return None;
        };
        if is_null(node) {
            report_other(node, "a size such as 2GiB", problems);
            return None;
        }
        match scalar.text.parse::<Size>() {
            Ok(size) if size >= least => return Some(size),
            Ok(size) => problems.report(node.at, format_args!("{size} is less than {least}")),
            Err(error) => problems.report(node.at, error),
        }
        None
    }
}

/// The version of the file's format.
pub struct Version;

impl Kind for Version {
    type Value = u32;

    fn schema() -> Json {
        json!({"enum": [VERSION]})
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<u32> {
        let number = scalar(node, Resolved::Number).and_then(|text| text.parse().ok());
        match number {
            Some(VERSION) => {}
            Some(newer) if newer > VERSION => problems.report(
                node.at,
                format_args!(
                    "the file needs a newer skep: this one reads version {VERSION}, not {newer}; update skep"
                ),
            ),
            _ => {
                let found = describe(node);
                problems.report(node.at, format_args!("{found} is not a version; write `version: {VERSION}`"));
            }
        }
        number.filter(|number| *number == VERSION)
    }
}

/// `true` or `false`.
pub struct Flag;

impl Kind for Flag {
    type Value = bool;

    fn schema() -> Json {
        json!({"type": "boolean"})
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<bool> {
        let flag = scalar(node, Resolved::Bool).and_then(|text| match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        });
        if flag.is_none() {
            report_other(node, "true or false", problems);
        }
        flag
    }
}
