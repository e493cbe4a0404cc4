//! Moments on the command line, as docker reads them.

use std::time::Duration;

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

const EXAMPLES: &str =
    "write how long ago, such as 10m or 1h30m, or a time such as 2026-01-02T15:04:05Z";

/// Reads a moment: how long ago it is, a time or date (RFC 3339, UTC if it names no zone), or a number of seconds since 1970.
pub fn moment(text: &str) -> Result<OffsetDateTime, String> {
    read(text, OffsetDateTime::now_utc()).ok_or_else(|| EXAMPLES.to_owned())
}

fn read(text: &str, now: OffsetDateTime) -> Option<OffsetDateTime> {
    if text == "now" {
        return Some(now);
    }
    if let Ok(seconds) = text.parse::<u32>() {
        return OffsetDateTime::from_unix_timestamp(seconds.into()).ok();
    }
    if let Some(ago) = duration(text) {
        return now.checked_sub(ago.try_into().ok()?);
    }
    // Docker takes times of which the last parts are missing.
    let zoned = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{text}:00Z"),
        19 => format!("{text}Z"),
        _ => text.to_owned(),
    };
    let at = OffsetDateTime::parse(&zoned, &Rfc3339).ok()?;
    Some(at.to_offset(UtcOffset::UTC))
}

/// Reads a duration such as `1h30m`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut all = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let end = rest[digits..].find(|letter: char| letter.is_ascii_digit());
        let end = end.map_or(rest.len(), |end| digits + end);
        let unit = match &rest[digits..end] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        all = all.checked_add(Duration::from_secs(number.checked_mul(unit)?))?;
        rest = &rest[end..];
    }
    (!text.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_docker_reads_them() {
        let now = OffsetDateTime::from_unix_timestamp(1_000_000_000).unwrap();
        let seconds = |text| read(text, now).map(OffsetDateTime::unix_timestamp);
        for (text, wanted) in [
            ("now", 1_000_000_000),
            ("0s", 1_000_000_000),
            ("90s", 999_999_910),
            ("1h30m", 999_994_600),
            ("12345", 12345),
            ("2001-09-09T01:46:40Z", 1_000_000_000),
            ("2001-09-09T03:46:40+02:00", 1_000_000_000),
            ("2001-09-09T01:46:40.5Z", 1_000_000_000),
            ("2001-09-09T01:46:40", 1_000_000_000),
            ("2001-09-09T01:46", 999_999_960),
            ("2001-09-09", 999_993_600),
        ] {
            assert_eq!(seconds(text), Some(wanted), "{text}");
        }
        for wrong in
            ["", "yesterday", "5x", "5", "m", "-1m", "2001-13-01", "99999999999999999h", "é"]
        {
            let is_number = wrong == "5";
            assert_eq!(seconds(wrong).is_some(), is_number, "{wrong}");
        }
    }
}
