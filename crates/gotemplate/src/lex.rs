//! Taking a template's text apart into tokens, with the rules of Go's text/template/parse.

use super::quote::go_quote;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Left,
    Right,
    Space,
    Dot,
    Field,
    Variable,
    Identifier,
    Keyword,
    Bool,
    Number,
    Quoted,
    Raw,
    Char,
    Pipe,
    Open,
    Close,
    Assign,
    Declare,
    Comma,
    End,
    Error,
}

/// A token: its text, where it begins, and in which line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) text: String,
    pub(super) at: usize,
    pub(super) line: usize,
}

impl Token {
    /// Returns the token as errors show it.
    pub(super) fn shown(&self) -> String {
        match self.kind {
            Kind::End => "EOF".to_owned(),
            Kind::Error => self.text.clone(),
            Kind::Keyword | Kind::Dot => format!("<{}>", self.text),
            _ if self.text.len() > 10 => {
                let short: String = self.text.chars().take(10).collect();
                format!("{}...", go_quote(&short))
            }
            _ => go_quote(&self.text),
        }
    }
}

const KEYWORDS: [&str; 11] = [
    "if", "else", "end", "range", "with", "define", "template", "block", "nil", "break", "continue",
];

/// Takes a text apart. The last token is the end or an error.
pub(super) fn lex(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { text, at: 0, line: 1, depth: 0, tokens: Vec::new() };
    if let Err(error) = lexer.run() {
        let line = lexer.line;
        lexer.tokens.push(Token { kind: Kind::Error, text: error, at: lexer.at, line });
    }
    lexer.tokens
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    depth: usize,
    tokens: Vec<Token>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Makes a token of the next `length` bytes.
    fn take(&mut self, kind: Kind, length: usize) {
        let text = &self.rest()[..length];
        self.tokens.push(Token { kind, text: text.to_owned(), at: self.at, line: self.line });
        self.skip(length);
    }

    fn skip(&mut self, length: usize) {
        self.line += self.rest()[..length].matches('\n').count();
        self.at += length;
    }

    fn run(&mut self) -> Result<(), String> {
        loop {
            let rest = self.rest();
            let Some(found) = rest.find("{{") else {
                if !rest.is_empty() {
                    self.take(Kind::Text, rest.len());
                }
                self.take(Kind::End, 0);
                return Ok(());
            };
            let inner = &rest[found + 2..];
            let trims = inner.starts_with('-') && inner[1..].starts_with(is_space);
            let kept = if trims { rest[..found].trim_end_matches(is_space).len() } else { found };
            if kept > 0 {
                self.take(Kind::Text, kept);
            }
            self.skip(found - kept);
            let mark = if trims { 4 } else { 2 };
            if self.rest()[mark..].starts_with("/*") {
                self.comment(mark)?;
                continue;
            }
            self.take(Kind::Left, 2);
            self.skip(mark - 2);
            self.depth = 0;
            self.inside()?;
        }
    }

    fn comment(&mut self, mark: usize) -> Result<(), String> {
        self.skip(mark);
        let Some(end) = self.rest().find("*/") else { return Err("unclosed comment".to_owned()) };
        self.skip(end + 2);
        match self.right() {
            Some(trims) => {
                self.skip(if trims { 4 } else { 2 });
                self.after(trims);
                Ok(())
            }
            None => Err("comment ends before closing delimiter".to_owned()),
        }
    }

    /// Tells whether an action ends here, and whether it trims what follows.
    fn right(&self) -> Option<bool> {
        let rest = self.rest();
        let mut letters = rest.chars();
        if letters.next().is_some_and(is_space) && letters.as_str().starts_with("-}}") {
            return Some(true);
        }
        rest.starts_with("}}").then_some(false)
    }

    fn after(&mut self, trims: bool) {
        if trims {
            let rest = self.rest();
            self.skip(rest.len() - rest.trim_start_matches(is_space).len());
        }
    }

    fn inside(&mut self) -> Result<(), String> {
        loop {
            if let Some(trims) = self.right() {
                if self.depth > 0 {
                    return Err("unclosed left paren".to_owned());
                }
                if trims {
                    self.skip(2);
                }
                self.take(Kind::Right, 2);
                self.after(trims);
                return Ok(());
            }
            let Some(letter) = self.peek() else { return Err("unclosed action".to_owned()) };
            let rest = self.rest();
            match letter {
                _ if is_space(letter) => {
                    let mut length = rest.len() - rest.trim_start_matches(is_space).len();
                    // The blank of ` -}}` belongs to the mark.
                    if length > 1 && rest[length..].starts_with("-}}") {
                        length -= 1;
                    }
                    self.take(Kind::Space, length);
                }
                '=' => self.take(Kind::Assign, 1),
                ':' if rest.starts_with(":=") => self.take(Kind::Declare, 2),
                ':' => return Err("expected :=".to_owned()),
                '|' => self.take(Kind::Pipe, 1),
                '"' => self.quoted('"', Kind::Quoted, "unterminated quoted string")?,
                '\'' => self.quoted('\'', Kind::Char, "unterminated character constant")?,
                '`' => match rest[1..].find('`') {
                    Some(end) => self.take(Kind::Raw, end + 2),
                    None => return Err("unterminated raw quoted string".to_owned()),
                },
                '$' => self.word(Kind::Variable)?,
                '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                    self.word(Kind::Field)?;
                }
                '.' | '+' | '-' | '0'..='9' => self.number()?,
                _ if is_word(letter) => self.identifier()?,
                '(' => {
                    self.depth += 1;
                    self.take(Kind::Open, 1);
                }
                ')' => {
                    if self.depth == 0 {
                        return Err("unexpected right paren".to_owned());
                    }
                    self.depth -= 1;
                    self.take(Kind::Close, 1);
                }
                ',' => self.take(Kind::Comma, 1),
                other => {
                    return Err(format!("unrecognized character in action: {}", shown(other)));
                }
            }
        }
    }

    fn quoted(&mut self, mark: char, kind: Kind, error: &str) -> Result<(), String> {
        let mut letters = self.rest().char_indices().skip(1);
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' if letters.next().is_none_or(|(_, next)| next == '\n') => break,
                '\n' => break,
                _ if letter == mark => {
                    self.take(kind, at + 1);
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(error.to_owned())
    }

    /// Takes `.name` or `$name`, or the mark alone.
    fn word(&mut self, kind: Kind) -> Result<(), String> {
        let length = word_length(&self.rest()[1..]);
        self.check_end(1 + length)?;
        match (kind, length) {
            (Kind::Field, 0) => self.take(Kind::Dot, 1),
            _ => self.take(kind, 1 + length),
        }
        Ok(())
    }

    fn identifier(&mut self) -> Result<(), String> {
        let length = word_length(self.rest());
        self.check_end(length)?;
        let kind = match &self.rest()[..length] {
            "true" | "false" => Kind::Bool,
            word if KEYWORDS.contains(&word) => Kind::Keyword,
            _ => Kind::Identifier,
        };
        self.take(kind, length);
        Ok(())
    }

    fn check_end(&self, length: usize) -> Result<(), String> {
        let rest = &self.rest()[length..];
        let Some(next) = rest.chars().next() else { return Ok(()) };
        let ends = is_space(next) || ".,|:)(".contains(next) || rest.starts_with("}}");
        if ends { Ok(()) } else { Err(format!("bad character {}", shown(next))) }
    }

    fn number(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let mut length = usize::from(rest.starts_with(['+', '-']));
        let digits = &rest[length..];
        let hex = ["0x", "0X"].iter().any(|mark| digits.starts_with(mark));
        let part = |c: char| match hex {
            true => c.is_ascii_hexdigit() || "xX_.pP".contains(c),
            false => c.is_ascii_digit() || "._eEoObB".contains(c),
        };
        let mut before = ' ';
        for letter in digits.chars() {
            let signed =
                "+-".contains(letter) && "eEpP".contains(before) && (!hex || "pP".contains(before));
            if !part(letter) && !signed {
                break;
            }
            length += letter.len_utf8();
            before = letter;
        }
        let next = rest[length..].chars().next();
        let bare = !rest[..length].contains(|c: char| c.is_ascii_digit());
        if bare || next.is_some_and(is_word) {
            let shown = length + next.map_or(0, char::len_utf8);
            return Err(format!("bad number syntax: {}", go_quote(&rest[..shown])));
        }
        self.take(Kind::Number, length);
        Ok(())
    }
}

fn word_length(text: &str) -> usize {
    text.len() - text.trim_start_matches(is_word).len()
}

fn is_word(letter: char) -> bool {
    letter == '_' || letter.is_alphanumeric()
}

fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\r' | '\n')
}

fn shown(letter: char) -> String {
    format!("U+{:04X} '{letter}'", u32::from(letter))
}
