//! How values are printed: Go's fmt.

use super::quote::go_quote;
use super::value::Value;

/// Returns a value as an action prints it.
pub(super) fn print(value: &Value) -> String {
    match value {
        Value::Missing | Value::Null => "<no value>".to_owned(),
        other => plain(other),
    }
}

/// Returns a value as `%v` has it.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Missing | Value::Null | Value::NullPointer(_) => "<nil>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Word(_, _, word) => word.clone(),
        Value::Float(value) => float(*value),
        Value::Text(text) => text.clone(),
        Value::List(list) => format!("[{}]", joined(list.iter().map(plain))),
        Value::Map(map) => {
            let entries = map.iter().map(|(key, value)| format!("{key}:{}", plain(value)));
            format!("map[{}]", joined(entries))
        }
        Value::TextMap(map) => {
            format!("map[{}]", joined(map.iter().map(|(key, value)| format!("{key}:{value}"))))
        }
        Value::Struct(value) => {
            format!("{{{}}}", joined(value.fields.iter().map(|(_, value)| plain(value))))
        }
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(" ")
}

/// Returns a number as `%g` has it: with an exponent below 1e-04, and from 1e+06 on.
pub(super) fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Carries out `printf`.
pub(super) fn format(pattern: &str, args: &[Value]) -> String {
    let mut out = String::new();
    let mut args = args.iter();
    let mut letters = pattern.chars().peekable();
    let mut used_up = true;
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = letters.next_if(|c| "+-# 0".contains(*c)) {
            spec.flags.push(flag);
        }
        spec.width = number(&mut letters);
        if letters.next_if_eq(&'.').is_some() {
            spec.precision = Some(number(&mut letters).unwrap_or(0));
        }
        let Some(verb) = letters.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        match args.next() {
            Some(value) => out.push_str(&spec.write(verb, value)),
            None => {
                used_up = false;
                out.push_str(&format!("%!{verb}(MISSING)"));
            }
        }
    }
    let extra: Vec<String> =
        args.map(|value| format!("{}={}", value.type_name(), plain(value))).collect();
    if used_up && !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn number(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<usize> {
    let mut digits = String::new();
    while let Some(digit) = letters.next_if(char::is_ascii_digit) {
        digits.push(digit);
    }
    // Nobody needs more; it would only fill the memory.
    digits.parse::<usize>().ok().map(|number| number.min(10_000))
}

/// What stands between `%` and the verb.
#[derive(Default)]
struct Spec {
    flags: String,
    width: Option<usize>,
    precision: Option<usize>,
}

impl Spec {
    fn write(&self, verb: char, value: &Value) -> String {
        let text = self.text(verb, value);
        let missing = self.width.unwrap_or(0).saturating_sub(text.chars().count());
        let is_number = matches!(value, Value::Int(_) | Value::Float(_)) && !"sqv".contains(verb);
        match (self.flags.contains('-'), self.flags.contains('0') && is_number) {
            (true, _) => text + &" ".repeat(missing),
            (false, true) => {
                let (sign, digits) = match text.strip_prefix(['-', '+']) {
                    Some(digits) => (&text[..1], digits),
                    None => ("", text.as_str()),
                };
                format!("{sign}{}{digits}", "0".repeat(missing))
            }
            (false, false) => " ".repeat(missing) + &text,
        }
    }

    fn text(&self, verb: char, value: &Value) -> String {
        let cut = |text: String| match self.precision {
            Some(count) => text.chars().take(count).collect(),
            None => text,
        };
        let signed = |text: String| match self.flags.contains('+') && !text.starts_with('-') {
            true => format!("+{text}"),
            false => text,
        };
        match (verb, value) {
            ('v', Value::Int(_)) => signed(plain(value)),
            ('v', other) => plain(other),
            ('T', other) => other.type_name().to_owned(),
            ('s', Value::Text(_) | Value::Word(..)) => cut(plain(value)),
            ('s', Value::List(_) | Value::Map(_) | Value::TextMap(_) | Value::Struct(_)) => {
                plain(value)
            }
            ('q', Value::Text(_) | Value::Word(..)) => go_quote(&cut(plain(value))),
            ('t', Value::Bool(value)) => value.to_string(),
            ('d', Value::Int(number) | Value::Word(_, number, _)) => signed(number.to_string()),
            ('x', Value::Int(number)) => format!("{number:x}"),
            ('X', Value::Int(number)) => format!("{number:X}"),
            ('o', Value::Int(number)) => format!("{number:o}"),
            ('b', Value::Int(number)) => format!("{number:b}"),
            ('c', Value::Int(number)) => {
                let letter = u32::try_from(*number).ok().and_then(char::from_u32);
                letter.unwrap_or('\u{fffd}').to_string()
            }
            ('x', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            ('f' | 'F', Value::Float(number)) => {
                signed(format!("{number:.*}", self.precision.unwrap_or(6)))
            }
            ('e', Value::Float(number)) => {
                let text = format!("{number:.*e}", self.precision.unwrap_or(6));
                let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                let exponent: i32 = exponent.parse().unwrap_or(0);
                let sign = if exponent < 0 { '-' } else { '+' };
                format!("{digits}e{sign}{:02}", exponent.abs())
            }
            ('g', Value::Float(number)) => signed(float(*number)),
            (_, Value::Missing | Value::Null) => format!("%!{verb}(<nil>)"),
            (_, other) => format!("%!{verb}({}={})", other.type_name(), plain(other)),
        }
    }
}
