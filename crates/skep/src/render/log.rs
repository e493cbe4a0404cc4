//! Lines of logs: from one place as they are, from several with the name of the place before each.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{obeys, shown, streams};

/// Colors that are told apart, and from the text, on a light and on a dark ground.
const COLORS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// How often it is looked whether anybody reads what is printed.
const READER: Duration = Duration::from_millis(250);

/// How many places are told apart by their colors.
const PLACES: usize = 10_000;

/// Writes lines of logs.
pub struct LogWriter {
    places: Mutex<Vec<String>>,
    has_prefix: bool,
    is_raw: bool,
}

impl LogWriter {
    /// Creates it for these places; more may come. `is_raw` if a terminal is to get control characters, too.
    #[must_use]
    pub fn new(places: Vec<String>, has_prefix: bool, is_raw: bool) -> Self {
        Self { places: Mutex::new(places), has_prefix, is_raw }
    }

    /// Writes a line of a place.
    pub fn line(&self, place: &str, text: &[u8]) {
        self.line_with("", place, text);
    }

    /// Writes a line of a place, with something before both.
    pub fn line_with(&self, before: &str, place: &str, text: &[u8]) {
        let mut line = shown::one_line(before).into_bytes();
        line.extend(before.ends_with(' ').then_some(b' '));
        if self.has_prefix {
            line.extend(self.prefix(place).into_bytes());
        }
        match streams::shows_results() && !self.is_raw {
            true => line.extend(shown::shown_bytes(text).into_bytes()),
            false => line.extend_from_slice(text),
        }
        // The next line may be of another place.
        if self.has_prefix && !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        streams::write_stdout(&line);
    }

    fn prefix(&self, place: &str) -> String {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let known = places.iter().position(|it| it == place);
        let number = known.unwrap_or_else(|| {
            if places.len() >= PLACES {
                places.clear();
            }
            places.push(place.to_owned());
            places.len() - 1
        });
        let width = places.iter().map(|it| it.chars().count()).max().unwrap_or(0);
        let has_color = obeys(streams::shows_results());
        prefix(place, width, has_color.then(|| COLORS[number % COLORS.len()]))
    }
}

/// Waits until nobody reads what is printed any more.
pub async fn until_nobody_reads() {
    while !streams::is_lost() {
        // wait: a failed write is only noted, and whoever follows a log makes none while nothing is said.
        tokio::time::sleep(READER).await;
    }
}

/// Returns what stands before a line; its name has passed the filter.
fn prefix(name: &str, width: usize, color: Option<u8>) -> String {
    let name = format!("{:width$} | ", shown::one_line(name));
    match color {
        Some(color) => format!("\x1b[{color}m{name}\x1b[0m"),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_aligned_and_pass_the_filter() {
        assert_eq!(prefix("node1", 6, None), "node1  | ");
        assert_eq!(prefix("a\x1bb", 1, Some(36)), "\x1b[36ma\\x1bb | \x1b[0m");
    }
}
