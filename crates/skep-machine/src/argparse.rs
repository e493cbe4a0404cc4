//! The command line's grammar, which is that of Go's flag package with the rules of an old cli library
//! on top:
//!
//! - one dash is as good as two, and short options are not bundled;
//! - within a command, options may stand before or after its arguments, but the first argument behind
//!   an option ends them;
//! - both names of an option in one line are an error.

use std::collections::BTreeMap;

use gotemplate::go_quote;

/// What an option takes, with its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// Nothing, or a boolean behind `=`.
    Switch,
    /// A word.
    Text(&'a str),
    /// An integer.
    Number(i64),
    /// A word for each time it is given.
    List,
}

/// An option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opt<'a> {
    /// Its names, the first of which it is known by.
    pub names: &'static [&'static str],
    /// What it takes.
    pub kind: Kind<'a>,
    /// What it is for.
    pub usage: &'static str,
    /// The variable of the environment that stands in for it.
    pub variable: Option<&'static str>,
}

impl<'a> Opt<'a> {
    /// Creates a switch.
    #[must_use]
    pub const fn switch(names: &'static [&'static str], usage: &'static str) -> Self {
        Self { names, kind: Kind::Switch, usage, variable: None }
    }

    /// Creates an option that takes a word.
    #[must_use]
    pub const fn text(
        names: &'static [&'static str],
        default: &'a str,
        usage: &'static str,
    ) -> Self {
        Self { names, kind: Kind::Text(default), usage, variable: None }
    }

    /// Creates an option that takes an integer.
    #[must_use]
    pub const fn number(names: &'static [&'static str], default: i64, usage: &'static str) -> Self {
        Self { names, kind: Kind::Number(default), usage, variable: None }
    }

    /// Creates an option that may be repeated.
    #[must_use]
    pub const fn list(names: &'static [&'static str], usage: &'static str) -> Self {
        Self { names, kind: Kind::List, usage, variable: None }
    }

    /// Names the variable of the environment that stands in for it.
    #[must_use]
    pub const fn or_variable(mut self, variable: &'static str) -> Self {
        self.variable = Some(variable);
        self
    }

    /// Returns the option as help shows it: names, default, usage, variable; a TAB between columns.
    #[must_use]
    pub fn line(&self) -> String {
        let dashed = |name: &&str| format!("{}{name}", if name.len() > 1 { "--" } else { "-" });
        let names: Vec<String> = self.names.iter().map(dashed).collect();
        let names = names.join(", ");
        let value = match &self.kind {
            Kind::Switch => String::new(),
            Kind::Text("") => " ".to_owned(),
            Kind::Text(default) => format!(" {}", go_quote(default)),
            Kind::Number(default) => format!(" \"{default}\""),
            Kind::List => {
                let name = dashed(&self.names[0]);
                format!(" [{name} option {name} option]")
            }
        };
        let variable = self.variable.map(|name| format!(" [${name}]")).unwrap_or_default();
        format!("{names}{value}\t{}{variable}", self.usage)
    }
}

/// What stands for `--help` in every line.
static HELP: Opt<'static> = Opt::switch(&["help", "h"], "show help");

/// What was given on a command line.
#[derive(Debug, Clone, Default)]
pub struct Given {
    options: BTreeMap<&'static str, Setting>,
    /// What is no option.
    pub words: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct Setting {
    /// As given on the command line, in order.
    given: Vec<String>,
    /// From the environment, else the default.
    otherwise: Vec<String>,
    /// Whether it is from the environment.
    from_variable: bool,
}

/// Where the value of an option comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The command line, and it is another value than the default.
    Line,
    /// The environment, likewise.
    Variable,
    /// Neither, or the value is the default.
    Default,
}

/// A line that breaks the grammar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// An option is unknown or its value no good.
    Usage(String),
    /// Both names of an option were used.
    TwoForms(String),
}

impl Given {
    /// Takes a line apart, as Go does.
    ///
    /// # Errors
    ///
    /// If an option is unknown, lacks its value, has a bad one, or is given by both names.
    pub fn parse(
        options: &[Opt],
        line: &[String],
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Wrong> {
        let all: Vec<&Opt> = options.iter().chain([&HELP]).collect();
        let mut given = Self::default();
        for option in &all {
            let otherwise = from_env(option, env);
            let from_variable = option.variable.and_then(env).is_some_and(|it| !it.is_empty());
            let setting = Setting { given: Vec::new(), otherwise, from_variable };
            given.options.insert(option.names[0], setting);
        }
        let mut used: Vec<&str> = Vec::new();
        let mut rest = line;
        while let Some((word, after)) = rest.split_first() {
            if word.len() < 2 || !word.starts_with('-') {
                break;
            }
            rest = after;
            if word == "--" {
                break;
            }
            let name = word.strip_prefix("--").unwrap_or(&word[1..]);
            if name.is_empty() || name.starts_with(['-', '=']) {
                return Err(Wrong::Usage(format!("bad flag syntax: {word}")));
            }
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            let option = all.iter().find(|option| option.names.contains(&name));
            let Some(option) = option else {
                return Err(Wrong::Usage(format!("flag provided but not defined: -{name}")));
            };
            let value = match (value, &option.kind) {
                (Some(value), _) => value,
                (None, Kind::Switch) => "true".to_owned(),
                (None, _) => {
                    let Some((value, after)) = rest.split_first() else {
                        return Err(Wrong::Usage(format!("flag needs an argument: -{name}")));
                    };
                    rest = after;
                    value.clone()
                }
            };
            check(option, name, &value)?;
            if let Some(setting) = given.options.get_mut(option.names[0]) {
                setting.given.push(value);
            }
            used.push(option.names.iter().find(|other| **other == name).unwrap_or(&""));
        }
        for option in &all {
            let mut forms = option.names.iter().filter(|name| used.contains(name));
            if let (Some(first), Some(second)) = (forms.next(), forms.next()) {
                let text = format!("Cannot use two forms of the same flag: {second} {first}");
                return Err(Wrong::TwoForms(text));
            }
        }
        given.words = rest.to_vec();
        Ok(given)
    }

    /// Takes a command's line apart: its options may follow its arguments.
    ///
    /// # Errors
    ///
    /// As [`Given::parse`].
    pub fn parse_command(
        options: &[Opt],
        line: &[String],
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Wrong> {
        let end = line.iter().position(|word| word == "--").unwrap_or(line.len());
        let Some(first) = line[..end].iter().position(|word| word.starts_with('-')) else {
            return Self::parse(options, line, env);
        };
        let sorted = [&line[first..end], &line[..first], &line[end..]].concat();
        Self::parse(options, &sorted, env)
    }

    /// Takes a line as words only.
    #[must_use]
    pub fn raw(line: &[String]) -> Self {
        Self { options: BTreeMap::new(), words: line.to_vec() }
    }

    /// Returns the value of an option that takes one word.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.last(name).map_or("", String::as_str)
    }

    /// Returns the value of a switch.
    #[must_use]
    pub fn switch(&self, name: &str) -> bool {
        self.last(name).and_then(|value| go_bool(value)).unwrap_or(false)
    }

    /// Returns the value of an option that takes an integer.
    #[must_use]
    pub fn number(&self, name: &str) -> i64 {
        self.last(name).and_then(|value| go_int(value).ok()).unwrap_or(0)
    }

    /// Returns the values of an option that may be repeated.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<String> {
        let Some(setting) = self.options.get(name) else { return Vec::new() };
        let values = if setting.given.is_empty() { &setting.otherwise } else { &setting.given };
        values.clone()
    }

    /// Tells where the value of an option comes from.
    #[must_use]
    pub fn origin(&self, option: &Opt) -> Origin {
        let Some(setting) = self.options.get(option.names[0]) else { return Origin::Default };
        let differs = |values: &[String]| {
            values.last().is_some_and(|it| match &option.kind {
                Kind::Switch => go_bool(it) == Some(true),
                Kind::Number(default) => go_int(it) != Ok(*default),
                Kind::Text(default) => it != default,
                Kind::List => true,
            })
        };
        match (setting.given.is_empty(), differs(&setting.given), differs(&setting.otherwise)) {
            (false, true, _) => Origin::Line,
            (true, _, true) => Origin::Variable,
            _ => Origin::Default,
        }
    }

    /// Tells whether an option is on the line or in the environment, be it with its default.
    #[must_use]
    pub fn is_given(&self, name: &str) -> bool {
        self.options.get(name).is_some_and(|it| it.from_variable || !it.given.is_empty())
    }

    fn last(&self, name: &str) -> Option<&String> {
        let setting = self.options.get(name)?;
        setting.given.last().or(setting.otherwise.last())
    }
}

fn from_env(option: &Opt, env: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let value = option.variable.and_then(env).filter(|value| !value.is_empty());
    match (&option.kind, value) {
        (Kind::Switch, Some(value)) if go_bool(&value).is_some() => vec![value],
        (Kind::Switch, _) => Vec::new(),
        (Kind::Text(_), Some(value)) => vec![value],
        (Kind::Text(default), None) => vec![default.to_string()],
        // What is no number is as good as nothing.
        (Kind::Number(_), Some(value)) if go_int(&value).is_ok() => vec![value],
        (Kind::Number(default), _) => vec![default.to_string()],
        (Kind::List, Some(value)) => value.split(',').map(|word| word.trim().to_owned()).collect(),
        (Kind::List, None) => Vec::new(),
    }
}

fn check(option: &Opt, name: &str, value: &str) -> Result<(), Wrong> {
    let quoted = || go_quote(value);
    match option.kind {
        Kind::Switch if go_bool(value).is_none() => {
            let text = format!("invalid boolean value {} for -{name}: parse error", quoted());
            Err(Wrong::Usage(text))
        }
        Kind::Number(_) => go_int(value).map(|_| ()).map_err(|why| {
            Wrong::Usage(format!("invalid value {} for flag -{name}: {why}", quoted()))
        }),
        _ => Ok(()),
    }
}

/// Reads a boolean as Go's strconv.ParseBool does.
pub fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Reads an integer as Go's strconv.ParseInt does with base 0.
fn go_int(text: &str) -> Result<i64, &'static str> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(base)) {
        return Err("parse error");
    }
    let sign = if negative { "-" } else { "" };
    i64::from_str_radix(&format!("{sign}{digits}"), base).map_err(|_| "value out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: [Opt<'static>; 4] = [
        Opt::switch(&["force", "f"], ""),
        Opt::switch(&["y"], ""),
        Opt::number(&["timeout", "t"], 10, "").or_variable("LIMIT"),
        Opt::list(&["filter"], "").or_variable("FILTER"),
    ];

    fn parse(line: &str) -> Result<Given, Wrong> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Given::parse_command(&OPTIONS, &words, &|_| None)
    }

    fn words(line: &str) -> Vec<String> {
        parse(line).unwrap().words
    }

    #[test]
    fn options_may_follow_arguments_and_end_at_the_next_one() {
        assert_eq!(words("foo -y"), ["foo"]);
        assert_eq!(words("foo bar -y baz"), ["baz", "foo", "bar"]);
        assert_eq!(words("-y foo -f"), ["foo", "-f"]);
        assert!(!parse("-y foo -f").unwrap().switch("force"));
        assert_eq!(words("-- foo"), ["foo"]);
        assert_eq!(words("-- -foo"), ["-foo"]);
        assert_eq!(words("a -y -- -b"), ["a", "--", "-b"]);
        assert_eq!(words("-y -- -b"), ["-b"]);
        assert_eq!(words("-"), ["-"]);
    }

    #[test]
    fn values_are_behind_the_name_or_the_equals_sign() {
        assert_eq!(parse("-timeout 0x10").unwrap().number("timeout"), 16);
        assert_eq!(parse("--t=010").unwrap().number("timeout"), 8);
        assert_eq!(parse("x").unwrap().number("timeout"), 10);
        assert_eq!(parse("--filter a --filter=b=c").unwrap().list("filter"), ["a", "b=c"]);
        assert!(!parse("--force=F").unwrap().switch("force"));
        assert!(parse("--force --force").unwrap().switch("force"));
    }

    #[test]
    fn the_environment_stands_in() {
        let env = |name: &str| Some(if name == "LIMIT" { "many" } else { "a, b" }.to_owned());
        let given = Given::parse(&OPTIONS, &[], &env).unwrap();
        assert_eq!(
            (given.number("timeout"), given.list("filter")),
            (10, vec!["a".into(), "b".into()])
        );
        let given = Given::parse(&OPTIONS, &["--filter=c".to_owned()], &env).unwrap();
        assert_eq!(given.list("filter"), ["c"]);
    }

    #[test]
    fn what_is_wrong_is_told_in_gos_words() {
        let wrong = |line: &str| match parse(line).unwrap_err() {
            Wrong::Usage(text) => text,
            Wrong::TwoForms(text) => format!("two: {text}"),
        };
        insta::assert_snapshot!(
            [
                "--frob",
                "-qf",
                "--timeout",
                "--timeout abc",
                "-t 99999999999999999999",
                "-y=maybe",
                "---y",
                "--=x",
                "-t 1 --timeout 2",
                "--force= x",
            ]
            .map(|line| format!("{line}: {}", wrong(line)))
            .join("\n")
        );
    }

    proptest::proptest! {
        #[test]
        fn no_line_breaks_it(line in "(-{0,3}(force|f|y|timeout|t|filter|h|ß)?=?[a-z0-9]{0,3} ){0,6}") {
            let _ = parse(&line);
        }
    }
}
