//! What the guest image of nodes is made from.

use serde::{Deserialize, Serialize};

/// What a guest image is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSpec {
    /// The Debian suite.
    pub suite: String,
    /// The mirror, or none for the image builder's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    /// Further apt sources, such as Docker's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<AptSource>,
    /// Further packages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
}

impl Default for ImageSpec {
    fn default() -> Self {
        Self { suite: "trixie".to_owned(), mirror: None, sources: Vec::new(), packages: Vec::new() }
    }
}

/// An apt source beside the suite's own (sources.list(5), the one-line form).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AptSource {
    /// The line, beginning with `deb `.
    pub line: String,
    /// The path on the host of the OpenPGP key that signs the source, or none if Debian's does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl ImageSpec {
    /// Returns everything that is wrong with it. Each of these words gets into a command line or apt's files.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let is_word = |word: &String| {
            let fits = |c: char| !c.is_whitespace() && !c.is_control() && c != ',';
            word.starts_with(|c: char| c.is_ascii_alphanumeric()) && word.chars().all(fits)
        };
        let words = [("suite", &self.suite)].into_iter();
        let words = words.chain(self.packages.iter().map(|package| ("package", package)));
        let words = words.chain(self.mirror.iter().map(|mirror| ("mirror", mirror)));
        let unfit = words.filter(|(_, word)| !is_word(word));
        let mut problems: Vec<_> = unfit
            .map(|(what, word)| format!("`{word}` is not a valid {what} for an image"))
            .collect();
        let is_line = |line: &str| line.starts_with("deb ") && !line.contains(char::is_control);
        for source in &self.sources {
            let keys = source.key.iter().any(|key| key.contains(char::is_control));
            if keys || !is_line(&source.line) {
                problems.push(format!("`{}` is not an apt source", source.line));
            }
        }
        problems
    }
}
