//! Questions, and what counts as a yes.

use skep_print::out;

/// Asks, and reads one word.
///
/// # Errors
///
/// If there is no word, or more than one; in Go's words.
pub fn confirm(question: &str) -> Result<bool, String> {
    out!("{question} (y/n): ");
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line).unwrap_or(0);
    answer(read, &line)
}

fn answer(read: usize, line: &str) -> Result<bool, String> {
    let mut words = line.split_whitespace();
    match (words.next(), words.next()) {
        (None, _) if read == 0 => Err("EOF".to_owned()),
        (None, _) => Err("unexpected newline".to_owned()),
        (Some(_), Some(_)) => Err("expected newline".to_owned()),
        (Some(word), None) => Ok(word.starts_with(['y', 'Y'])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yes_is_one_word_that_begins_with_y() {
        for (line, yes) in [("y\n", true), ("Yes\n", true), ("yo", true), ("n\n", false)] {
            assert_eq!(answer(line.len(), line), Ok(yes));
        }
        for (line, error) in
            [("", "EOF"), ("\n", "unexpected newline"), ("y n\n", "expected newline")]
        {
            assert_eq!(answer(line.len(), line), Err(error.to_owned()));
        }
    }
}
