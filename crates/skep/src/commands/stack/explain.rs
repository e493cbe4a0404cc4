//! What a user is told of services that are not what was asked for, and what to do.

use std::time::Duration;

use skep_core::services::{Cause, Outcome, Standing};
use skep_docker::stack::{Ending, Report, Swarm, report};
use skep_print::errln;

use crate::error::{CliError, code};

const LONGER: &str = "run the same command with a longer --timeout";
const BRING_BACK: &str = "skep status  # skep up starts what is down";

/// Turns the end of a watch into what the user is told.
///
/// # Errors
///
/// If a service is not what was asked for; with its task, node, last words and what to do.
pub(in crate::commands) async fn judge_ending(
    swarm: Swarm<'_>,
    ending: &Ending,
    what: &str,
    limit: Duration,
) -> Result<(), CliError> {
    for status in ending.outcome.services.iter().filter(|it| it.wanted == 0) {
        if let Some(problem) = &status.problem {
            errln!("warning: {} does not run on any node: {problem}", status.name);
        }
    }
    if !ending.late && ending.outcome.is_converged() {
        return Ok(());
    }
    // Without a manager there is nobody to ask for more.
    let reports = match ending.silent {
        None => report(swarm, &ending.outcome).await,
        Some(_) => without_words(&ending.outcome),
    };
    let error = explain(&reports, what, ending.late.then_some(limit));
    Err(with_absences(error, ending))
}

/// Returns what is known without asking anybody.
fn without_words(outcome: &Outcome) -> Vec<Report> {
    let bad = outcome.services.iter().filter(|it| it.standing != Standing::Converged);
    bad.map(Report::of).collect()
}

/// Adds which nodes are down, and that no manager answers, if that is so.
fn with_absences(mut error: CliError, ending: &Ending) -> CliError {
    for node in &ending.outcome.down {
        error.message.push_str(&format!("\n  {node} is down"));
    }
    if let Some(silent) = &ending.silent {
        error.message.push_str(&format!("\n  at the end {silent}"));
    }
    if ending.outcome.down.is_empty() && ending.silent.is_none() {
        return error;
    }
    error.hints.retain(|hint| hint != LONGER && hint != BRING_BACK);
    error.hint(BRING_BACK)
}

/// Tells what is wrong with services, and what to do about each.
fn explain(reports: &[Report], what: &str, late: Option<Duration>) -> CliError {
    let mut message = match late {
        Some(limit) => format!("{what} did not converge within {} s", limit.as_secs()),
        None => format!("{what} does not converge"),
    };
    let mut hints = Vec::new();
    for report in reports {
        let status = &report.status;
        message.push_str(&format!("\n  {}: {}/{}", status.name, status.running, status.wanted));
        if let Some(problem) = &status.problem {
            message.push_str(&format!("; {problem}"));
        }
        if report.out_of_memory {
            message.push_str("; it exceeded its memory limit");
        }
        if let Some(check) = &report.check {
            message.push_str(&format!("; its last check: {check}"));
        }
        if !report.log.is_empty() {
            message.push_str("\n    last lines of its log:");
        }
        for line in &report.log {
            message.push_str(&format!("\n      {line}"));
        }
        for hint in hints_of(report) {
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
    }
    let on_its_way = |report: &Report| {
        report.status.problem.as_ref().is_none_or(|problem| problem.cause.is_on_its_way())
    };
    if late.is_some() && reports.iter().all(on_its_way) {
        hints.push(LONGER.to_owned());
    }
    let code = if late.is_some() { code::TIMEOUT } else { code::FAILED };
    CliError { code, message, hints }
}

fn hints_of(report: &Report) -> Vec<String> {
    let Some(problem) = &report.status.problem else { return Vec::new() };
    match problem.cause {
        Cause::Exits(_) if report.out_of_memory => {
            vec![format!("give {} a higher memory limit", report.status.name)]
        }
        _ => problem.advice.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use skep_core::services::{Problem, Prospect, Status, TaskRef};
    use skep_docker::stack::Error;

    use super::*;

    fn report(name: &str, cause: Cause, text: &str, advice: &str) -> Report {
        let task = TaskRef {
            id: "t1".to_owned(),
            name: format!("{name}.1"),
            node: Some("node1".to_owned()),
            container: None,
        };
        let problem = Problem {
            cause,
            prospect: Prospect::Hopeless,
            task: Some(task),
            text: text.to_owned(),
            advice: vec![advice.to_owned()],
        };
        Report::of(&Status {
            id: "s1".to_owned(),
            name: name.to_owned(),
            image: "nginx".to_owned(),
            running: 0,
            wanted: 1,
            nodes: BTreeSet::new(),
            tasks: BTreeSet::new(),
            done: false,
            standing: Standing::Stuck,
            problem: Some(problem),
        })
    }

    #[test]
    fn each_problem_comes_with_its_last_words_and_a_way_out() {
        let logs = "skep docker -- service logs api";
        let mut exits = report("api", Cause::Exits(7), "its container ended with code 7", logs);
        exits.log = vec!["cannot reach the database".to_owned()];
        let mut killed =
            report("cache", Cause::Exits(137), "its container ended with code 137", logs);
        killed.out_of_memory = true;
        let mut sick = report("sick", Cause::Unhealthy, "unhealthy container", "give it time");
        sick.check = Some("exit code 1: still loading".to_owned());
        let loading = "its health check has not passed yet";
        let reports = [
            exits,
            killed,
            sick,
            report("data", Cause::NoNode, "no node meets node.labels.tier==data", "add a label"),
            report("more", Cause::NoNode, "no node meets node.labels.tier==more", "add a label"),
            report("slow", Cause::HealthPending, loading, "look at its log"),
        ];
        insta::assert_snapshot!(explain(&reports, "stack shop", None));
        let late = |reports| explain(reports, "stack shop", Some(Duration::from_secs(60)));
        let exits = late(&reports[..1]);
        assert_eq!((exits.code, exits.to_string().lines().count()), (code::TIMEOUT, 5));
        assert_eq!(late(&reports[5..]).hints, ["look at its log", LONGER]);
    }

    #[test]
    fn nodes_that_are_down_are_named_with_what_brings_them_back() {
        let lost = report("web", Cause::NodesDown, "the node is down", BRING_BACK);
        let services = vec![lost.status.clone()];
        let down = ["node1".to_owned()].into();
        let ending = Ending {
            outcome: Outcome { services, down, settled: false },
            late: true,
            silent: Some(Error::NoManager("node0: it does not answer".to_owned())),
        };
        let error = explain(&[lost], "stack shop", Some(Duration::from_secs(60)));
        insta::assert_snapshot!(with_absences(error, &ending), @r"
        error: stack shop did not converge within 60 s
          web: 0/1; web.1 on node1: the node is down
          node1 is down
          at the end no manager responds (node0: it does not answer)
          try: skep status  # skep up starts what is down
        ");
    }
}
