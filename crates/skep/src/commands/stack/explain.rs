//! What a user is told of services that are not what was asked for, and what to do.

use std::time::Duration;

use skep_core::services::{Cause, Outcome, Standing, Status};
use skep_docker::stack::{Ending, Report, Swarm, report};

use crate::errln;
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
    let report =
        |status: &Status| Report { status: status.clone(), log: Vec::new(), out_of_memory: false };
    bad.map(report).collect()
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
        if !report.log.is_empty() {
            message.push_str("\n    last lines of its log:");
        }
        for line in &report.log {
            message.push_str(&format!("\n      {line}"));
        }
        hints.extend(
            hint(report).into_iter().filter(|hint| !hints.contains(hint)).collect::<Vec<_>>(),
        );
    }
    if late.is_some() && hints.is_empty() {
        hints.push(LONGER.to_owned());
    }
    let code = if late.is_some() { code::TIMEOUT } else { code::FAILED };
    CliError { code, message, hints }
}

fn hint(report: &Report) -> Option<String> {
    let service = &report.status.name;
    let problem = report.status.problem.as_ref()?;
    let node = problem.task.as_ref().and_then(|task| task.node.as_deref()).unwrap_or("NODE");
    let logs = format!("skep docker -- service logs {service}");
    Some(match &problem.cause {
        Cause::NoNode => {
            "skep status  # then skep node label KEY=VALUE@NODE, or skep node activate NODE".into()
        }
        Cause::NodesDown => BRING_BACK.to_owned(),
        Cause::NoResources => {
            "skep node add --memory 4GiB  # or reserve less memory for the service".to_owned()
        }
        Cause::PortTaken => {
            format!(
                "skep ssh {node} -- sudo ss -ltnup  # shows what uses the port; or publish another one"
            )
        }
        Cause::NoImage(image) => format!(
            "docker save {image} | skep docker --node {node} -- load  # on each node, if it is in no registry"
        ),
        Cause::NoMount => format!("skep ssh {node}  # and create the path to mount"),
        Cause::NoCommand => "check the command and entrypoint of the service".to_owned(),
        Cause::Unhealthy => {
            format!("{logs}  # or give its health check a longer start_period")
        }
        Cause::Exits(_) if report.out_of_memory => {
            format!("give {service} a higher memory limit")
        }
        Cause::NotRestarted => format!("{logs}  # or set another restart_policy"),
        Cause::Exits(_) | Cause::Update | Cause::Other => logs,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use skep_core::services::{Problem, TaskRef};
    use skep_docker::stack::Error;

    use super::*;

    fn report(name: &str, cause: Cause, text: &str) -> Report {
        let task = TaskRef {
            id: "t1".to_owned(),
            name: format!("{name}.1"),
            node: Some("node1".to_owned()),
            container: None,
        };
        let status = Status {
            id: "s1".to_owned(),
            name: name.to_owned(),
            image: "nginx".to_owned(),
            running: 0,
            wanted: 1,
            nodes: BTreeSet::new(),
            tasks: BTreeSet::new(),
            standing: Standing::Stuck,
            problem: Some(Problem { cause, task: Some(task), text: text.to_owned() }),
        };
        Report { status, log: Vec::new(), out_of_memory: false }
    }

    #[test]
    fn each_problem_comes_with_a_way_out() {
        let mut exits = report("api", Cause::Exits(7), "its container ended with code 7");
        exits.log = vec!["cannot reach the database".to_owned()];
        let mut killed = report("cache", Cause::Exits(137), "its container ended with code 137");
        killed.out_of_memory = true;
        let reports = [
            exits,
            killed,
            report("data", Cause::NoNode, "no node meets node.labels.tier==data"),
            report("big", Cause::NoResources, "no node has 65536 MiB of memory left"),
            report("web", Cause::PortTaken, "8080/tcp of the node is taken"),
            report("shop", Cause::NoImage("shop:1".to_owned()), "there is no image shop:1"),
            report("disk", Cause::NoMount, "bind source path does not exist"),
            report("odd", Cause::NoCommand, "executable file not found"),
            report("sick", Cause::Unhealthy, "unhealthy container"),
            report("once", Cause::NotRestarted, "its restart policy starts no other"),
        ];
        insta::assert_snapshot!(explain(&reports, "stack shop", None));
        let late = explain(&reports[..1], "stack shop", Some(Duration::from_secs(60)));
        assert_eq!((late.code, late.to_string().lines().count()), (code::TIMEOUT, 5));
    }

    #[test]
    fn nodes_that_are_down_are_named_with_what_brings_them_back() {
        let lost = report("web", Cause::NodesDown, "the node is down");
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
