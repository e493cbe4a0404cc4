//! What of a text a terminal may get to see.
//!
//! Texts come from guests, engines, images, hosts, plugins and files, and go to a terminal that obeys escape
//! sequences. So everything that is printed passes here: what is no plain text becomes visible as an escape such as
//! `\x1b`. That holds for a pipe as well, as a terminal may be behind it.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The most letters of a text that has one line of its own among others.
const LINE: usize = 1000;

/// Returns a text whose control characters and invisible or turning marks are visible. Lines and tabs stay.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    let is_plain = |letter: char| matches!(letter, '\n' | '\t') || !is_hidden(letter);
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            // A console ends its lines so.
            '\r' if letters.peek() == Some(&'\n') => {}
            letter if is_plain(letter) => shown.push(letter),
            letter => push_escape(&mut shown, letter),
        }
    }
    Cow::Owned(shown)
}

/// Does so for what need not be UTF-8: bytes that are no part of a letter are visible, too.
#[must_use]
pub fn shown_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&shown(chunk.valid()));
        chunk.invalid().iter().for_each(|byte| push_byte(&mut text, *byte));
    }
    text
}

/// Returns a text for a place of one line: a cell of a table, or how far a step is.
#[must_use]
pub fn one_line(text: &str) -> String {
    let text = shown(text.trim_end());
    let mut letters = text.chars();
    let line = letters.by_ref().take(LINE);
    let mut line: String = line.map(|it| if it.is_control() { ' ' } else { it }).collect();
    if letters.next().is_some() {
        line.push('…');
    }
    line
}

/// Returns a JSON or YAML document with the same meaning and nothing hidden in its texts.
#[must_use]
pub fn document(text: String) -> String {
    // JSON's escapes cover what is below a blank; nothing else that is hidden stands outside a text.
    let is_plain =
        |letter: char| letter == '\n' || !is_hidden(letter) || u32::from(letter) > 0xffff;
    if text.chars().all(is_plain) {
        return text;
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match is_plain(letter) {
            true => shown.push(letter),
            false => _ = write!(shown, "\\u{:04x}", u32::from(letter)),
        }
    }
    shown
}

/// Tells whether a letter does something to its line, or is not to be seen.
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            // Soft hyphen, Arabic letter mark, Mongolian vowel separator.
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            // Blanks of no width, marks of direction, and what ends a line or paragraph.
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            // Joiners, isolates and other marks of direction; the mark of byte order; tags.
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

fn push_escape(text: &mut String, letter: char) {
    match u32::from(letter) {
        // C1 controls are two bytes, and must not be taken for invalid ones.
        code @ 0x80.. => _ = write!(text, "\\u{{{code:x}}}"),
        code => _ = write!(text, "\\x{code:02x}"),
    }
}

fn push_byte(text: &mut String, byte: u8) {
    _ = write!(text, "\\x{byte:02x}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_visible() {
        let hostile = "a\x1b]0;title\x07b\x1b[2Jc\u{9b}31md\u{202e}e\x08\x7f\0\rf";
        assert_eq!(
            shown(hostile),
            "a\\x1b]0;title\\x07b\\x1b[2Jc\\u{9b}31md\\u{202e}e\\x08\\x7f\\x00\\x0df"
        );
        assert_eq!(shown("one\r\ntwo\n\tthree"), "one\ntwo\n\tthree");
        assert!(matches!(shown("plain: größer, 日本, 🦀"), Cow::Borrowed(_)));
        for hidden in ['\u{200b}', '\u{2066}', '\u{feff}', '\u{e0041}', '\u{2028}', '\u{85}'] {
            assert!(shown(&hidden.to_string()).starts_with("\\u{"), "{hidden:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_visible() {
        assert_eq!(shown_bytes(b"a\xff\xfe\x1bz\xc3\xa9\n"), "a\\xff\\xfe\\x1bz\u{e9}\n");
    }

    #[test]
    fn a_place_of_one_line_gets_one_line() {
        assert_eq!(one_line("a\n  try: rm -rf /\t\x1b[1A\n"), "a   try: rm -rf / \\x1b[1A");
        assert_eq!(one_line(&"x".repeat(5000)).chars().count(), LINE + 1);
    }

    #[test]
    fn a_document_keeps_its_meaning() {
        let value = serde_json::json!({ "a\u{9b}": ["\x1b[2J", "\u{202e}x\u{7f}", "é\n"] });
        let text = document(format!("{value:#}\n"));
        assert!(text.chars().all(|letter| letter == '\n' || !is_hidden(letter)), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn whatever_is_shown_is_plain_and_shown_again_the_same() {
        for code in 0..=0x11_0000_u32 {
            let Some(letter) = char::from_u32(code) else { continue };
            let text = letter.to_string();
            let seen = shown(&text);
            assert!(seen.chars().all(|it| matches!(it, '\n' | '\t') || !is_hidden(it)));
            assert_eq!(shown(&seen), seen);
        }
    }
}
