//! Plans of what leads from the host to a node: names, ports, the docker command's context.

use insta::assert_snapshot;
use skep_core::model::{Admits, ClusterName, ClusterSpec, HostnameSpec};
use skep_core::observed::{ContextState, Observed};
use skep_core::plan::{
    StopMode, UpOptions, plan_down, plan_follow, plan_start, plan_stop, plan_up,
};

use crate::goldens::{show, show_up, world_of};
use crate::specs::{demo, hostname, name};

#[test]
fn ways_from_the_host() {
    let mut spec = demo(1, 1);
    spec.access.ports = vec![443, 80];
    spec.hostnames = vec![HostnameSpec { follow: true, ..hostname("shop.example", None) }];
    let mut world = world_of(&demo(1, 1));
    world.docker_config = Some("/etc/docker-cli".to_owned());
    let plan = plan_up(&spec, &world.look(), UpOptions::default()).unwrap();
    assert_snapshot!("ways_are_made", show(&plan));
    plan.steps.iter().for_each(|step| world.apply(step).unwrap());
    assert_eq!(show_up(&spec, &world.look()), "nothing to do\n");
    // The manager goes down: what follows it moves to the other node, and back.
    let plan = plan_stop(&world.look(), &[name(0)], StopMode::Kill).unwrap();
    assert_snapshot!("ways_move_with_a_node_that_is_killed", show(&plan));
    plan.steps.iter().for_each(|step| world.apply(step).unwrap());
    let plan = plan_start(&world.look(), &[name(0)], UpOptions::default()).unwrap();
    assert_snapshot!("ways_move_back_with_a_node_that_starts", show(&plan));
    plan.steps.iter().for_each(|step| world.apply(step).unwrap());
    // One that ends by itself is noticed by whoever looks.
    assert_eq!(show(&plan_follow(&world.look())), "nothing to do\n");
    world.kill(&name(0));
    assert_snapshot!("ways_are_moved_by_who_looks", show(&plan_follow(&world.look())));
    // Somebody else's context of that name is left alone.
    world.context = ContextState::Others;
    let plan = plan_down(&world.look());
    assert!(!show(&plan).contains("docker context"), "{}", show(&plan));
}

#[test]
fn peers_are_opened_and_closed_by_up() {
    let peer = |name: &str| name.parse::<ClusterName>().unwrap();
    let spec = ClusterSpec { peers: vec![peer("b"), peer("c"), peer("d")], ..demo(1, 1) };
    let mut world = world_of(&demo(1, 1));
    world.host.clusters = [(peer("b"), vec![peer("demo")]), (peer("c"), vec![peer("b")])].into();
    let plan = plan_up(&spec, &world.look(), UpOptions::default()).unwrap();
    assert_snapshot!("peers_are_opened", show(&plan));
    plan.steps.iter().for_each(|step| world.apply(step).unwrap());
    assert_eq!(world.admitted.peers, spec.peers);
    assert!(plan_up(&spec, &world.look(), UpOptions::default()).unwrap().steps.is_empty());
    let plan = plan_up(&demo(1, 1), &world.look(), UpOptions::default()).unwrap();
    plan.steps.iter().for_each(|step| world.apply(step).unwrap());
    assert_eq!((world.admitted, plan.warnings), (Admits::default(), Vec::new()));
}

#[test]
fn peers_that_cannot_be_are_refused() {
    let peers = |names: Vec<String>| {
        let peers = names.iter().map(|name| name.parse().unwrap()).collect();
        let spec = ClusterSpec { peers, ..demo(1, 0) };
        plan_up(&spec, &Observed::default(), UpOptions::default()).unwrap_err().to_string()
    };
    assert!(peers(vec!["demo".into()]).ends_with("cluster demo cannot be its own peer"));
    let many = peers((0..17).map(|number| format!("c{number}")).collect());
    assert!(many.ends_with("17 peers are requested; a cluster can have 16"), "{many}");
}

#[test]
fn a_port_that_another_cluster_has_is_refused() {
    let mut spec = demo(1, 0);
    spec.access.ports = vec![80];
    let mut seen = Observed::default();
    seen.host.ports = vec![(80, "cluster other".to_owned())];
    let error = plan_up(&spec, &seen, UpOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "port 80 of this host is already published by cluster other");
}
