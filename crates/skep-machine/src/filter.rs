//! `ls --filter KEY=VALUE`: filters of one key are alternatives, those of different keys must all fit.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::Regex;
use regex_syntax::ast::ErrorKind;
use tokio::task::JoinSet;

use super::driver::Machine;

/// What is listed.
#[derive(Debug, Default)]
pub struct Filters {
    swarms: Vec<String>,
    drivers: Vec<String>,
    states: Vec<String>,
    names: Vec<String>,
    labels: Vec<String>,
}

impl Filters {
    /// Reads filters.
    ///
    /// # Errors
    ///
    /// If one has no value or an unknown key.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let mut filters = Self::default();
        for text in texts {
            let (key, value) = text.split_once('=').ok_or("Unsupported filter syntax")?;
            let values = match key.to_lowercase().as_str() {
                "swarm" => &mut filters.swarms,
                "driver" => &mut filters.drivers,
                "state" => &mut filters.states,
                "name" => &mut filters.names,
                "label" => &mut filters.labels,
                _ => return Err(format!("Unsupported filter key '{key}'")),
            };
            values.push(value.to_owned());
        }
        Ok(filters)
    }

    /// Keeps the machines that fit. Each has the time limit to tell its state, if that is asked for.
    ///
    /// # Errors
    ///
    /// If an expression is none.
    pub async fn keep(
        &self,
        machines: Vec<Machine>,
        masters: &BTreeMap<String, String>,
        limit: Duration,
    ) -> Result<Vec<Machine>, String> {
        if machines.is_empty() {
            return Ok(machines);
        }
        let names = self.names.iter().map(|text| expression(text));
        let names = names.collect::<Result<Vec<_>, _>>()?;
        let states = match self.states.is_empty() {
            true => vec![String::new(); machines.len()],
            false => states(&machines, limit).await,
        };
        let fits = |(machine, state): (Machine, String)| {
            let options = &machine.config.host_options;
            let master = masters.get(&options.swarm_options.discovery);
            let master = master.map(String::as_str).unwrap_or_default();
            let labels = options.engine_options.labels.as_deref().unwrap_or_default();
            let own_name = machine.config.driver.get("MachineName").and_then(|it| it.as_str());
            let own_name = own_name.unwrap_or(machine.name());
            let kept = among(&self.swarms, |value| same(value, master))
                && among(&self.drivers, |value| same(value, &machine.config.driver_name))
                && among(&self.states, |value| same(value, &state))
                && (names.is_empty() || names.iter().any(|name| name.is_match(own_name)))
                && among(&self.labels, |value| has_label(labels, value));
            kept.then_some(machine)
        };
        Ok(machines.into_iter().zip(states).filter_map(fits).collect())
    }
}

fn among(values: &[String], fits: impl Fn(&str) -> bool) -> bool {
    values.is_empty() || values.iter().any(|value| fits(value))
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

/// Tells whether a label is among a machine's; one without `=` has an empty value.
fn has_label(labels: &[String], wanted: &str) -> bool {
    let parts = |text: &str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    let (key, value) = parts(wanted);
    // The last of a key counts.
    let found = labels.iter().rev().map(|label| parts(label)).find(|(other, _)| *other == key);
    found.is_some_and(|(_, other)| same(&other, &value))
}

async fn states(machines: &[Machine], limit: Duration) -> Vec<String> {
    let mut looks = JoinSet::new();
    for (index, machine) in machines.iter().cloned().enumerate() {
        looks.spawn(async move {
            let word = match tokio::time::timeout(limit, machine.state()).await {
                Ok(Ok(state)) => state.word(),
                Ok(Err(_)) => "Error",
                Err(_) => "Timeout",
            };
            (index, word.to_owned())
        });
    }
    let mut states = looks.join_all().await;
    states.sort();
    states.into_iter().map(|(_, state)| state).collect()
}

fn expression(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|_| format!("error parsing regexp: {}", problem(text)))
}

/// Returns what Go's regexp says of an expression that is none.
fn problem(text: &str) -> String {
    let Err(error) = regex_syntax::ast::parse::Parser::new().parse(text) else {
        return format!("invalid expression: `{text}`");
    };
    let span = error.span();
    let part = text.get(span.start.offset..span.end.offset).unwrap_or_default();
    let from = text.get(span.start.offset..).unwrap_or_default();
    match error.kind() {
        ErrorKind::GroupUnclosed => format!("missing closing ): `{text}`"),
        ErrorKind::GroupUnopened => format!("unexpected ): `{text}`"),
        ErrorKind::ClassUnclosed => format!("missing closing ]: `{from}`"),
        ErrorKind::RepetitionMissing => {
            let sign: String = from.chars().take(1).collect();
            format!("missing argument to repetition operator: `{sign}`")
        }
        ErrorKind::RepetitionCountInvalid => format!("invalid repeat count: `{part}`"),
        ErrorKind::ClassRangeInvalid => format!("invalid character class range: `{part}`"),
        ErrorKind::EscapeUnexpectedEof => "trailing backslash at end of expression: ``".to_owned(),
        ErrorKind::EscapeUnrecognized => format!("invalid escape sequence: `{part}`"),
        _ => format!("invalid or unsupported expression: `{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_in_gos_words() {
        let say = |text: &str| expression(text).unwrap_err();
        assert_eq!(say("("), "error parsing regexp: missing closing ): `(`");
        assert_eq!(say("a)"), "error parsing regexp: unexpected ): `a)`");
        assert_eq!(say("x[a"), "error parsing regexp: missing closing ]: `[a`");
        assert_eq!(say("*"), "error parsing regexp: missing argument to repetition operator: `*`");
        assert_eq!(say("\\"), "error parsing regexp: trailing backslash at end of expression: ``");
        let filter = |text: &str| Filters::parse(&[text.to_owned()]).unwrap_err();
        assert_eq!(filter("name"), "Unsupported filter syntax");
        assert_eq!(filter("Color=red"), "Unsupported filter key 'Color'");
    }

    #[test]
    fn a_label_without_a_value_is_one_all_the_same() {
        let labels = ["a=1".to_owned(), "b".to_owned(), "a=X".to_owned()];
        assert!(has_label(&labels, "a=x") && has_label(&labels, "b") && has_label(&labels, "b="));
        assert!(!has_label(&labels, "a=1") && !has_label(&labels, "c"));
    }
}
