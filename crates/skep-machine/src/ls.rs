//! `ls` and `active`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use gotemplate::{Template, Value};
use skep_print::{
    out, outln,
    tabwriter::{TABLE, align},
};

use super::call::Call;
use super::driver::Machine;
use super::failure::Failure;
use super::filter::Filters;
use super::row::{Row, look};

const DEFAULT_FORMAT: &str = "table {{ .Name }}\t{{ .Active }}\t{{ .DriverName}}\t{{ .State }}\
    \t{{ .URL }}\t{{ .Swarm }}\t{{ .DockerVersion }}\t{{ .Error}}";

/// The header of each field.
const HEADERS: [(&str, &str); 13] = [
    ("Name", "NAME"),
    ("Active", "ACTIVE"),
    ("ActiveHost", "ACTIVE_HOST"),
    ("ActiveSwarm", "ACTIVE_SWARM"),
    ("DriverName", "DRIVER"),
    ("State", "STATE"),
    ("URL", "URL"),
    ("SwarmOptions", "SWARM_OPTIONS"),
    ("Swarm", "SWARM"),
    ("EngineOptions", "ENGINE_OPTIONS"),
    ("Error", "ERRORS"),
    ("DockerVersion", "DOCKER"),
    ("ResponseTime", "RESPONSE"),
];

/// Returns the time limit for each machine.
fn limit(call: &Call) -> Duration {
    Duration::from_secs(u64::try_from(call.given.number("timeout")).unwrap_or(0))
}

/// Lists machines.
pub(super) async fn ls(call: &Call) -> Result<(), Failure> {
    let filters = Filters::parse(&call.given.list("filter"))?;
    let (machines, broken) = call.load_all()?;
    let masters = masters(&machines);
    let machines = filters.keep(machines, &masters, limit(call)).await?;
    if call.given.switch("quiet") {
        for machine in &machines {
            outln!("{}", machine.name());
        }
        return Ok(());
    }
    let format = call.given.text("format");
    let format = if format.is_empty() { DEFAULT_FORMAT } else { format };
    let table = format.strip_prefix("table");
    let text = table.unwrap_or(format).trim_matches(' ');
    let text = text.replace("\\t", "\t").replace("\\n", "\n") + "\n";
    let template = Template::parse(&text, &[])?;
    let mut printed = String::new();
    let result = if table.is_some() {
        let headers = HEADERS.map(|(field, header)| (field.to_owned(), header.to_owned()));
        template.execute(&Value::TextMap(Rc::new(headers.into())), &mut printed)
    } else {
        Ok(())
    };
    let result = match result {
        Ok(()) => {
            let mut rows = look(&machines, limit(call), true).await;
            name_masters(&mut rows, &masters);
            let rows = sorted(rows, &broken);
            rows.iter().try_for_each(|row| template.execute(&row.to_value(), &mut printed))
        }
        error => error,
    };
    match table {
        Some(_) => out!("{}", align(&printed, TABLE)),
        None => out!("{printed}"),
    }
    Ok(result?)
}

/// Prints the name of the active machine.
pub(super) async fn active(call: &Call) -> Result<(), Failure> {
    if !call.words().is_empty() {
        return Err("Error: Too many arguments given".into());
    }
    let (machines, broken) = call.load_all()?;
    let rows = sorted(look(&machines, limit(call), false).await, &broken);
    if let Some(row) = rows.iter().find(|row| row.active_host || row.active_swarm) {
        outln!("{}", row.name);
        return Ok(());
    }
    let late = rows.iter().any(|row| row.state == super::driver::State::Timeout);
    let text = if late { "Error getting active host: timeout" } else { "No active host found" };
    Err(text.into())
}

/// Returns the masters of old swarms by where their members find them.
fn masters(machines: &[Machine]) -> BTreeMap<String, String> {
    let swarms = machines.iter().map(|it| (&it.config.host_options.swarm_options, it.name()));
    let masters = swarms.filter(|(swarm, _)| swarm.master);
    masters.map(|(swarm, name)| (swarm.discovery.clone(), name.to_owned())).collect()
}

fn name_masters(rows: &mut [Row], masters: &BTreeMap<String, String>) {
    for row in rows {
        let swarm = row.options.as_ref().map(|options| &options.swarm_options);
        if let Some(swarm) = swarm.filter(|swarm| !swarm.discovery.is_empty()) {
            let master = masters.get(&swarm.discovery).cloned().unwrap_or_default();
            row.swarm = if swarm.master { format!("{master} (master)") } else { master };
        }
    }
}

/// Adds the machines that cannot be loaded, and sorts.
fn sorted(mut rows: Vec<Row>, broken: &[(String, String)]) -> Vec<Row> {
    rows.extend(broken.iter().map(|(name, error)| Row::broken(name, error)));
    rows.sort_by(|a, b| natural(&a.name, &b.name));
    rows
}

/// Compares names as people do: without regard to case, and runs of digits as numbers.
fn natural(a: &str, b: &str) -> Ordering {
    let (low_a, low_b) = (a.to_lowercase(), b.to_lowercase());
    let (mut rest_a, mut rest_b) = (low_a.as_str(), low_b.as_str());
    while let (Some(first_a), Some(first_b)) = (rest_a.chars().next(), rest_b.chars().next()) {
        let (len_a, len_b) = (digits(rest_a), digits(rest_b));
        let order = if len_a > 0 && len_b > 0 {
            let number = |text: &str, len: usize| text[..len].trim_start_matches('0').to_owned();
            let (number_a, number_b) = (number(rest_a, len_a), number(rest_b, len_b));
            (rest_a, rest_b) = (&rest_a[len_a..], &rest_b[len_b..]);
            number_a.len().cmp(&number_b.len()).then(number_a.cmp(&number_b))
        } else {
            (rest_a, rest_b) = (&rest_a[first_a.len_utf8()..], &rest_b[first_b.len_utf8()..]);
            first_a.cmp(&first_b)
        };
        if order.is_ne() {
            return order;
        }
    }
    rest_a.len().cmp(&rest_b.len()).then(a.cmp(b))
}

fn digits(text: &str) -> usize {
    text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_that_people_expect() {
        let mut names = ["node10", "Node2", "node1", "node", "node9", "a10b2", "a10b1", "NODE1"];
        names.sort_by(|a, b| natural(a, b));
        let expected = ["a10b1", "a10b2", "node", "NODE1", "node1", "Node2", "node9", "node10"];
        assert_eq!(names, expected);
    }
}
