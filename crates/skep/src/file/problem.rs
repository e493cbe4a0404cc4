//! What is wrong with a cluster file, all of it, each with its place.

use std::fmt;

/// How many problems are told at most; a file of the wrong kind has one in every line.
const TOLD: usize = 100;
/// How much of a text is shown.
const SHOWN: usize = 60;

/// A place in a file; lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// What is wrong at a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    at: Place,
    message: String,
}

impl Problem {
    /// Creates a problem; control characters of the file are escaped, so it stays one line.
    pub fn new(at: Place, message: impl fmt::Display) -> Self {
        Self { at, message: escaped(&message.to_string()) }
    }
}

/// The problems that were found so far, and where in the file's structure the reading is.
#[derive(Debug, Default)]
pub struct Problems {
    found: Vec<Problem>,
    path: String,
}

impl Problems {
    /// Adds a problem with what is being read.
    pub fn report(&mut self, at: Place, message: impl fmt::Display) {
        let problem = match self.path.as_str() {
            "" => Problem::new(at, message),
            path => Problem::new(at, format_args!("{path}: {message}")),
        };
        self.found.push(problem);
    }

    /// Reads what stands under a key.
    pub fn under<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.inside(&format!("{dot}{}", shortened(key)), read)
    }

    /// Reads an item of a list.
    pub fn item<T>(&mut self, index: usize, read: impl FnOnce(&mut Self) -> T) -> T {
        self.inside(&format!("[{index}]"), read)
    }

    fn inside<T>(&mut self, step: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let outside = self.path.len();
        self.path.push_str(step);
        let value = read(self);
        self.path.truncate(outside);
        value
    }

    /// Returns the problems in the order of the file.
    pub fn into_sorted(mut self) -> Vec<Problem> {
        self.found.sort();
        self.found.dedup();
        self.found
    }
}

/// Returns problems as text, `FILE:LINE:COLUMN: MESSAGE` each.
pub fn render_problems(file: &str, problems: &[Problem]) -> String {
    let told = problems.iter().take(TOLD).map(|problem| {
        let Place { line, column } = problem.at;
        format!("{file}:{line}:{column}: {}", problem.message)
    });
    let rest = problems.len().saturating_sub(TOLD);
    let more = (rest > 0).then(|| format!("{file}: and {rest} more"));
    told.chain(more).collect::<Vec<_>>().join("\n")
}

/// Returns what of the allowed words may have been meant, or all of them, as the end of a message.
pub fn advice(given: &str, allowed: &[&str]) -> String {
    match nearest(given, allowed) {
        Some(word) => format!("did you mean {word}?"),
        None => format!("allowed: {}", allowed.join(", ")),
    }
}

fn nearest<'a>(given: &str, allowed: &[&'a str]) -> Option<&'a str> {
    let given = given.to_lowercase();
    let length = given.chars().count();
    // The distance takes time in proportion to both lengths.
    if length > SHOWN {
        return None;
    }
    let near = allowed.iter().filter_map(|word| {
        let begun = length >= 3 && word.starts_with(&given);
        let distance = strsim::damerau_levenshtein(&given, word);
        let bound = length.max(word.len()).div_ceil(3).min(3);
        (begun || distance < bound.max(2)).then_some((distance, *word))
    });
    near.min().map(|(_, word)| word)
}

/// Returns a text between backticks, shortened if it is long.
pub fn quoted(text: &str) -> String {
    match text {
        "" => "an empty text".to_owned(),
        text => format!("`{}`", shortened(text)),
    }
}

/// Returns a text, or its beginning if it is long.
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_guessed_and_nothing_else() {
        let keys = ["cpus", "memory", "disk", "labels"];
        for (given, meant) in
            [("memroy", "memory"), ("cpu", "cpus"), ("CPUs", "cpus"), ("mem", "memory")]
        {
            assert_eq!(advice(given, &keys), format!("did you mean {meant}?"));
        }
        for given in ["", "image", "x", &"memory".repeat(20)] {
            assert_eq!(advice(given, &keys), "allowed: cpus, memory, disk, labels", "{given}");
        }
    }

    #[test]
    fn a_problem_is_one_line_and_there_are_not_too_many() {
        let mut problems = Problems::default();
        problems.under("nodes", |problems| {
            problems.under("a\nb", |problems| {
                problems.item(3, |problems| {
                    for line in (1..=TOLD + 2).rev() {
                        problems.report(Place { line, column: 1 }, "bad\u{1b}");
                    }
                });
            });
        });
        let text = render_problems("f", &problems.into_sorted());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), TOLD + 1);
        assert_eq!(lines[0], r"f:1:1: nodes.a\nb[3]: bad\u{1b}");
        assert_eq!(lines[TOLD], "f: and 2 more");
    }
}
