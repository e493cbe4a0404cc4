//! From bytes to lines, and which of them are recent enough.

use time::OffsetDateTime;

/// The most bytes of a line: a longer one is cut into several.
const LINE: usize = 64 << 10;

/// How many letters of a time are compared: up to its seconds.
const STAMP: usize = "2026-01-02T03:04:05".len();

/// Cuts what is read into lines, and leaves out those from before a time.
pub(super) struct Lines {
    since: Option<String>,
    is_recent: bool,
    rest: Vec<u8>,
}

impl Lines {
    pub(super) fn since(since: Option<OffsetDateTime>) -> Self {
        let since = since.map(stamp);
        Self { is_recent: since.is_none(), since, rest: Vec::new() }
    }

    /// Adds bytes, and hands on each line that they end.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut dyn FnMut(Vec<u8>)) {
        let pieces = bytes.split_inclusive(|byte| *byte == b'\n');
        for piece in pieces.flat_map(|piece| piece.chunks(LINE)) {
            self.rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.rest.len() >= LINE {
                self.finish(out);
            }
        }
    }

    /// Hands on the last line, which has no end.
    pub(super) fn finish(&mut self, out: &mut dyn FnMut(Vec<u8>)) {
        let line = std::mem::take(&mut self.rest);
        if let (Some(since), Some(stamp)) = (&self.since, stamp_of(&line)) {
            self.is_recent = stamp >= *since;
        }
        if self.is_recent && !line.is_empty() {
            out(line);
        }
    }
}

/// Returns a time as logs have it, to the second, in UTC.
fn stamp(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    let (date, time) = (at.date(), at.time());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    let (hour, minute, second) = time.as_hms();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Returns the time with which a line begins: svlogd(8) writes `2026-01-02_03:04:05.12345`, journalctl(1)
/// `2026-01-02T03:04:05+0000`.
fn stamp_of(line: &[u8]) -> Option<String> {
    let mut stamp = line.get(..STAMP)?.to_vec();
    let is_right = stamp.iter().zip(b"0000-00-00T00:00:00").all(|(byte, pattern)| match pattern {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'_' | b'T'),
        other => byte == other,
    });
    stamp["2026-01-02".len()] = b'T';
    is_right.then(|| String::from_utf8(stamp).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(since: Option<OffsetDateTime>, pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::since(since);
        let mut all = Vec::new();
        let mut out = |line: Vec<u8>| all.push(String::from_utf8_lossy(&line).into_owned());
        pieces.iter().for_each(|piece| lines.push(piece, &mut out));
        lines.finish(&mut out);
        all
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        assert_eq!(
            read(None, &[b"on", b"e\n\ntw", b"o\nthr", b"ee"]),
            ["one\n", "\n", "two\n", "three"]
        );
        let long = vec![b'x'; 3 * LINE];
        let read = read(None, &[&long[..LINE - 1], &long]);
        assert!(read.len() > 1 && read.iter().all(|line| line.len() < 2 * LINE));
    }

    #[test]
    fn lines_from_before_a_time_are_left_out() {
        let since = OffsetDateTime::from_unix_timestamp(1_000_000_000).unwrap();
        let log: &[u8] = b"no time yet\n2001-09-09_01:46:39.99999 old\n  more of it\n\
            2001-09-09_01:46:40.00000 new\n  more of that\n2001-09-09T01:46:41+0000 host dockerd[1]: x\n";
        assert_eq!(
            read(Some(since), &[log]),
            [
                "2001-09-09_01:46:40.00000 new\n",
                "  more of that\n",
                "2001-09-09T01:46:41+0000 host dockerd[1]: x\n"
            ]
        );
        assert_eq!(read(None, &[log]).len(), 6);
    }
}
