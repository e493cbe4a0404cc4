//! What is made of the answers of a real swarm of two nodes (Docker 26.1, API 1.45), on which each
//! service was made to come to a different end. Long lists that are not read were taken out.

use bollard::models::{Node, Service, Task};
use serde::Deserialize;
use skep_core::services::{HOLD, View, Watch, judge};
use std::fmt::Write as _;
use std::time::Duration;

use super::view_of;

#[derive(Deserialize)]
struct Captured {
    services: Vec<Service>,
    tasks: Vec<Task>,
    nodes: Vec<Node>,
}

fn captured() -> View {
    let captured: Captured = serde_json::from_str(include_str!("captured.json")).unwrap();
    view_of(captured.services, captured.tasks, captured.nodes)
}

#[test]
fn each_service_is_judged_by_what_became_of_it() {
    let mut text = String::new();
    for status in judge(&captured()) {
        writeln!(text, "{}: {:?} {status}", status.name, status.standing).unwrap();
        if let Some(problem) = &status.problem {
            writeln!(text, "    {:?}", problem.cause).unwrap();
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn what_goes_well_has_to_stay_so() {
    let mut view = captured().of_stack("cap");
    view.services.retain(|service| service.name == "cap_ok");
    let mut watch = Watch::default();
    assert!(!watch.look(Duration::ZERO, &view).settled);
    let outcome = watch.look(HOLD, &view);
    assert!(outcome.settled && outcome.is_converged());
    // A task that takes the place of another begins to be watched anew.
    let task = view.tasks.iter_mut().find(|task| task.service == view.services[0].id).unwrap();
    task.id = "another".to_owned();
    assert!(!watch.look(HOLD * 2, &view).settled);
}

#[test]
fn what_a_change_replaces_does_not_count() {
    let captured: Captured = serde_json::from_str(include_str!("captured.json")).unwrap();
    let mut services = captured.services;
    services.retain(|service| service.spec.as_ref().unwrap().name.as_deref() == Some("cap_ok"));
    let template = |services: &mut Vec<Service>| {
        services[0].spec.as_mut().unwrap().task_template.as_mut().unwrap().clone()
    };
    let judged = |services: &[Service]| {
        let view = view_of(services.to_vec(), captured.tasks.clone(), captured.nodes.clone());
        (judge(&view)[0].running, judge(&view)[0].standing)
    };
    let before = judged(&services);
    let mut moved = template(&mut services);
    moved.placement.get_or_insert_default().constraints = Some(vec!["node.role!=x".to_owned()]);
    services[0].spec.as_mut().unwrap().task_template = Some(moved.clone());
    assert_eq!(judged(&services), before, "tasks that may stay are kept by the swarm");
    moved.force_update = Some(7);
    services[0].spec.as_mut().unwrap().task_template = Some(moved);
    assert_eq!(judged(&services).0, 0);
}

#[test]
fn answers_of_a_swarm_are_judged_one_by_one() {
    // Two nodes of one CPU, engine 26.1; each service was made to end in another way, and one node was lost
    // for a moment.
    let captured: Captured = serde_json::from_str(include_str!("answers-26.1.json")).unwrap();
    let view = view_of(captured.services, captured.tasks, captured.nodes);
    let mut text = String::new();
    for status in judge(&view) {
        writeln!(text, "{}: {:?} {status}", status.name, status.standing).unwrap();
        for advice in status.problem.iter().flat_map(|problem| &problem.advice) {
            writeln!(text, "    {advice}").unwrap();
        }
    }
    insta::assert_snapshot!(text);
}
