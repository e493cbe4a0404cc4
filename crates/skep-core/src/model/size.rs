//! Sizes of memory and disks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// How no size at all is written.
const NONE: &str = "0MiB";

/// A size in bytes, a whole number of MiB, written `512MiB` or `2GiB`.
///
/// `M`, `MB` and `MiB` all mean 2^20 bytes, as they do for QEMU and Docker; a number without a unit
/// is refused, because some tools read it as MiB and others as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(u64);

/// A text that is not a size.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a size: write a number with a unit, such as 512MiB or 2GiB")]
pub struct SizeError(String);

impl Size {
    /// Returns the size of `count` MiB.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count * MIB)
    }

    /// Returns the size of `count` GiB.
    #[must_use]
    pub const fn gib(count: u64) -> Self {
        Self(count * GIB)
    }

    /// Returns the size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Returns the size in MiB.
    #[must_use]
    pub const fn as_mib(self) -> u64 {
        self.0 / MIB
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let bad = || SizeError(text.to_owned());
        let trimmed = text.trim();
        let unit_at = trimmed.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(bad)?;
        let (number, unit) = trimmed.split_at(unit_at);
        let unit = match unit.to_ascii_lowercase().as_str() {
            "k" | "kb" | "kib" => KIB,
            "m" | "mb" | "mib" => MIB,
            "g" | "gb" | "gib" => GIB,
            "t" | "tb" | "tib" => TIB,
            _ => return Err(bad()),
        };
        let number: f64 = number.trim().parse().map_err(|_| bad())?;
        let bytes = number * unit as f64;
        // 2^53 is where f64 stops counting single bytes; 8 PiB is more than any node has.
        if !(bytes >= MIB as f64 && bytes <= (1u64 << 53) as f64) {
            return Err(bad());
        }
        Ok(Self(bytes as u64 / MIB * MIB))
    }
}

impl TryFrom<String> for Size {
    type Error = SizeError;

    /// Reads what was written down: a host's size is zero, which nobody may ask for.
    fn try_from(text: String) -> Result<Self, SizeError> {
        if text == NONE { Ok(Self(0)) } else { text.parse() }
    }
}

impl From<Size> for String {
    fn from(size: Size) -> String {
        size.to_string()
    }
}

impl fmt::Display for Size {
    /// Writes the size as the cluster file has it (`2GiB`), or as prose has it (`{:#}`: `2 GiB`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gap = if f.alternate() { " " } else { "" };
        let text = match self.0 {
            0 => NONE.to_owned(),
            bytes if bytes % TIB == 0 => format!("{}{gap}TiB", bytes / TIB),
            bytes if bytes % GIB == 0 => format!("{}{gap}GiB", bytes / GIB),
            bytes => format!("{}{gap}MiB", bytes / MIB),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_powers_of_two_and_case_does_not_matter() {
        for text in ["2GiB", "2G", "2gb", "2048MiB", "2048m", " 2 GiB "] {
            assert_eq!(text.parse::<Size>().unwrap(), Size::gib(2), "{text}");
        }
        assert_eq!("1.5GiB".parse::<Size>().unwrap(), Size::mib(1536));
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in
            ["", "2048", "GiB", "-1GiB", "0MiB", "1KiB", "nanGiB", "infGiB", "1XiB", "99999999TiB"]
        {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(mib in 1u64..1 << 32) {
            let size = Size::mib(mib);
            prop_assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
            prop_assert_eq!(format!("{size:#}").parse::<Size>().unwrap(), size);
        }

        #[test]
        fn parsing_never_panics(text in ".{0,24}") {
            let _ = text.parse::<Size>();
        }
    }
}
