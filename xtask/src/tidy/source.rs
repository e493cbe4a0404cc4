//! A Rust file as tokens and paths.
//!
//! Reading tokens instead of text means that comments and string literals do not count, and reading
//! tokens instead of a syntax tree means that what stands inside a macro does.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::Violation;

/// A Rust file.
pub struct Source {
    /// The file, relative to the repository.
    pub path: String,
    /// Its lines.
    pub lines: Vec<String>,
    /// Its tokens; a group is its opening token, its content and its closing token.
    pub tokens: Vec<Token>,
    /// Every path that it names, `use` trees taken apart.
    pub names: Vec<Name>,
}

/// A token.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its text; of a literal only a placeholder.
    pub text: String,
    /// The line, counted from one.
    pub line: usize,
    /// Whether it is in code that exists only for tests.
    pub test: bool,
}

/// A path that is named, such as `std::fs::read`.
#[derive(Debug)]
pub struct Name {
    /// Its parts.
    pub parts: Vec<String>,
    /// The line, counted from one.
    pub line: usize,
    /// Whether it is in code that exists only for tests.
    pub test: bool,
    /// Whether it is imported here, not used.
    pub import: bool,
}

impl Name {
    /// Returns the path as it is written.
    pub fn text(&self) -> String {
        self.parts.join("::")
    }

    /// Tells whether two parts stand next to each other in it, the second by one of these names.
    pub fn has(&self, first: &str, second: &[&str]) -> bool {
        let mut pairs = self.parts.windows(2);
        pairs.any(|pair| pair[0] == first && second.contains(&pair[1].as_str()))
    }
}

impl Source {
    /// Reads a file.
    pub fn parse(path: &str, text: &str) -> Result<Self, Violation> {
        let stream: TokenStream = text.parse().map_err(|error: proc_macro2::LexError| {
            let line = error.span().start().line.max(1);
            Violation::new(path, line, "cannot be read as Rust")
        })?;
        let mut tokens = Vec::new();
        flatten(stream, is_test_path(path), &mut tokens);
        let names = find_names(&tokens);
        let lines = text.lines().map(str::to_owned).collect();
        Ok(Self { path: path.to_owned(), lines, tokens, names })
    }

    /// Returns the crate that it belongs to, by its directory.
    pub fn krate(&self) -> &str {
        match self.path.split('/').collect::<Vec<_>>()[..] {
            ["crates", krate, ..] => krate,
            [first, ..] => first,
            [] => "",
        }
    }

    /// Tells whether it is only for tests.
    pub fn is_test_file(&self) -> bool {
        is_test_path(&self.path)
    }

    /// Returns how many of its lines are not tests.
    pub fn code_lines(&self) -> usize {
        let mut in_tests = vec![false; self.lines.len() + 1];
        let mut opened = None;
        for token in &self.tokens {
            match (token.test, opened) {
                (true, None) => opened = Some(token.line),
                (false, Some(_)) => opened = None,
                _ => {}
            }
            if let Some(first) = opened {
                in_tests[first..=token.line].fill(true);
            }
        }
        in_tests.iter().skip(1).filter(|in_tests| !**in_tests).count()
    }
}

fn is_test_path(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.contains("/benches/")
}

fn flatten(stream: TokenStream, test: bool, out: &mut Vec<Token>) {
    // Set from `#[cfg(test)]` to the end of the item that it stands at.
    let mut test_item = false;
    for tree in stream {
        let line = tree.span().start().line;
        let test = test || test_item;
        let mut push = |text: String, line| out.push(Token { text, line, test });
        match tree {
            TokenTree::Ident(ident) => push(ident.to_string(), line),
            TokenTree::Punct(punct) => {
                push(punct.as_char().to_string(), line);
                test_item &= punct.as_char() != ';';
            }
            TokenTree::Literal(_) => push("\"\"".to_owned(), line),
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                let attribute = open == "[" && out.last().is_some_and(|last| last.text == "#");
                if attribute && is_cfg_test(group.stream()) {
                    test_item = true;
                    // The `#` belongs to the item too.
                    out.last_mut().expect("there is one before an attribute").test = true;
                }
                let test = test || test_item;
                out.push(Token { text: open.to_owned(), line, test });
                flatten(group.stream(), test, out);
                let line = group.span_close().start().line;
                out.push(Token { text: close.to_owned(), line, test });
                test_item &= open != "{";
            }
        }
    }
}

/// Tells whether an attribute is `cfg(test)` or `cfg(all(test, …))`.
fn is_cfg_test(attribute: TokenStream) -> bool {
    let text: String = attribute.to_string().split_whitespace().collect();
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

fn find_names(tokens: &[Token]) -> Vec<Name> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_ident(&tokens[at].text) {
            let import = tokens[at].text == "use";
            at += usize::from(import);
            // `use ::krate` begins with the colons.
            while import && tokens.get(at).is_some_and(|token| token.text == ":") {
                at += 1;
            }
            at = read_name(tokens, at, &[], import, &mut names);
        } else {
            at += 1;
        }
    }
    names
}

/// Reads one path or one branch of a `use` tree and returns the place after it.
fn read_name(
    tokens: &[Token],
    mut at: usize,
    prefix: &[String],
    import: bool,
    names: &mut Vec<Name>,
) -> usize {
    let Some(first) = tokens.get(at) else { return at };
    let mut parts = prefix.to_vec();
    loop {
        match tokens.get(at).map(|token| token.text.as_str()) {
            Some("{") if import => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    let next = read_name(tokens, at, &parts, import, names);
                    // A comma, or what follows `as`.
                    at = next.max(at + 1);
                    while tokens.get(at).is_some_and(|token| token.text == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            Some("*") if import => parts.push("*".to_owned()),
            Some(text) if is_ident(text) => parts.push(text.to_owned()),
            _ => return at,
        }
        at += 1;
        let more = tokens.get(at..at + 2).is_some_and(|two| two.iter().all(|t| t.text == ":"));
        let continues = tokens
            .get(at + 2)
            .is_some_and(|next| is_ident(&next.text) || (import && "{*".contains(&next.text)));
        if !more || !continues {
            break;
        }
        at += 2;
    }
    if parts.last().is_some_and(|last| last == "self") && parts.len() > 1 {
        parts.pop();
    }
    let Token { line, test, .. } = *first;
    names.push(Name { parts, line, test, import });
    if import && tokens.get(at).is_some_and(|token| token.text == "as") {
        at += 2;
    }
    at
}

fn is_ident(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str, text: &str) -> Vec<String> {
        let source = Source::parse(path, text).unwrap();
        let shown = source.names.iter().filter(|name| name.parts.len() > 1);
        shown
            .map(|name| format!("{}{}", name.text(), if name.test { " test" } else { "" }))
            .collect()
    }

    #[test]
    fn use_trees_are_taken_apart() {
        let text = "use std::{fs, env::{self, var as v, *}, io::Write}; use crate::a as b; x::y();";
        let expected = ["std::fs", "std::env", "std::env::var", "std::env::*", "std::io::Write"];
        let found = names("a.rs", text);
        assert_eq!(found[..5], expected);
        assert_eq!(found[5..], ["crate::a", "x::y"]);
    }

    #[test]
    fn names_inside_macros_and_generics_count_and_those_in_text_do_not() {
        let text =
            "// a::b\nfn f() { m!(c::d, \"e::f\"); g::<h::i>(); Vec::<j::k>::new(); ::l::m() }";
        assert_eq!(names("a.rs", text), ["c::d", "h::i", "j::k", "l::m"]);
    }

    #[test]
    fn test_code_is_told_from_the_rest() {
        let text = "a::b();\n#[cfg(test)]\nuse c::d;\ne::f();\n#[cfg(test)]\nmod tests {\n\
                    g::h();\n}\ni::j();\n";
        assert_eq!(names("a.rs", text), ["a::b", "c::d test", "e::f", "g::h test", "i::j"]);
        assert_eq!(Source::parse("a.rs", text).unwrap().code_lines(), 3);
        assert_eq!(names("crates/skep/tests/e2e.rs", "a::b();"), ["a::b test"]);
    }

    #[test]
    fn what_does_not_lex_is_reported() {
        let error = Source::parse("a.rs", "fn f() {\n  \"open\n").err().unwrap();
        assert_eq!(error.rule, "cannot be read as Rust");
    }
}
