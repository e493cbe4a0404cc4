//! Every reason for which there is no plan, as the user reads it.

use insta::assert_snapshot;
use skep_core::fixtures;
use skep_core::model::{ClusterSpec, Role, Size};
use skep_core::observed::{HostFacts, Observed};
use skep_core::plan::{
    PlanError, UpOptions, plan_hostnames, plan_idle_stop, plan_recover, plan_remove_nodes,
    plan_settings, plan_start, plan_up,
};

use crate::carry_out::{Dice, End, up};
use crate::specs::{demo, hostname, name, node};
use crate::world::{Damage, World};

fn error_of(spec: &ClusterSpec, seen: &Observed) -> PlanError {
    plan_up(spec, seen, UpOptions::default()).unwrap_err()
}

/// All that clusters may have.
const PRIVATE: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15"];

fn on_a_host_with(subnet: &str) -> Observed {
    on_a_host_with_all(&[subnet])
}

fn on_a_host_with_all(subnets: &[&str]) -> Observed {
    let route = |subnet: &&str| (subnet.parse().unwrap(), "eth0".to_owned());
    let subnets = subnets.iter().map(route).collect();
    Observed { host: HostFacts { subnets, ..HostFacts::default() }, ..Observed::default() }
}

fn world_of(spec: &ClusterSpec) -> World {
    let mut world = World::default();
    assert_eq!(up(&mut world, spec, &mut Dice(0), None), Ok(End::Done));
    world
}

#[test]
fn a_specification_that_contradicts_itself() {
    let mut spec = demo(0, 2);
    spec.nodes[1] = spec.nodes[0].clone();
    fixtures::shape(&mut spec.nodes[1]).cpus = 0;
    fixtures::shape(&mut spec.nodes[1]).memory = Size::mib(64);
    spec.hostnames = vec![hostname("a.example", None), hostname("a.example", Some(7))];
    assert_snapshot!(error_of(&spec, &Observed::default()));
    assert_snapshot!("no_nodes", error_of(&demo(0, 0), &Observed::default()));
}

#[test]
fn subnets_that_cannot_be_had() {
    let in_subnet = |subnet: &str| ClusterSpec { subnet: subnet.parse().ok(), ..demo(1, 0) };
    let taken = error_of(&in_subnet("10.5.0.0/16"), &on_a_host_with("10.5.3.0/24"));
    assert_snapshot!("subnet_taken", taken);
    let unfit = error_of(&in_subnet("8.8.8.0/24"), &Observed::default());
    assert_snapshot!("subnet_unfit", unfit);
    let small = ClusterSpec { subnet: "10.5.0.0/29".parse().ok(), ..demo(3, 4) };
    assert_snapshot!("subnet_too_small", error_of(&small, &Observed::default()));
    let none = error_of(&demo(1, 0), &on_a_host_with_all(&PRIVATE));
    assert_snapshot!("no_free_subnet", none);
    let fixed = error_of(&in_subnet("10.5.0.0/24"), &world_of(&demo(1, 0)).look());
    assert_snapshot!("subnet_fixed", fixed);
}

#[test]
fn a_subnet_that_is_full_of_nodes_that_are_not_wanted() {
    let mut spec = ClusterSpec { subnet: "10.5.0.0/29".parse().ok(), ..demo(1, 4) };
    let seen = world_of(&spec).look();
    spec.nodes.truncate(1);
    spec.nodes.push(node(5, Role::Worker));
    assert_snapshot!(error_of(&spec, &seen));
}

#[test]
fn a_disk_that_would_shrink() {
    let mut spec = demo(1, 0);
    let seen = world_of(&spec).look();
    fixtures::shape(&mut spec.nodes[0]).disk = Size::gib(5);
    assert_snapshot!(error_of(&spec, &seen));
}

#[test]
fn nodes_and_clusters_that_are_not_there() {
    let seen = world_of(&demo(1, 1)).look();
    let error = plan_remove_nodes(&seen, &[name(7)], false).unwrap_err();
    assert_snapshot!("unknown_node", error);
    let unknown = [hostname("a.example", Some(7))];
    assert_snapshot!("unknown_hostname", plan_hostnames(&seen, &unknown).unwrap_err());
    let nothing = Observed::default();
    let start = plan_start(&nothing, &[], UpOptions::default()).unwrap_err();
    assert_snapshot!("unknown_cluster", start);
    assert_eq!(plan_start(&nothing, &[name(0)], UpOptions::default()), Err(start.clone()));
    assert_eq!(plan_remove_nodes(&nothing, &[name(0)], false), Err(start));
}

#[test]
fn removals_that_the_swarm_would_not_survive() {
    let refusal = |spec: &ClusterSpec, damage: &[Damage], leaving: &[usize]| {
        let mut world = world_of(spec);
        damage.iter().for_each(|damage| world.suffer(*damage));
        let leaving: Vec<_> = leaving.iter().copied().map(name).collect();
        plan_remove_nodes(&world.look(), &leaving, false).unwrap_err()
    };
    assert_snapshot!("all_nodes", refusal(&demo(1, 1), &[], &[0, 1]));
    assert_snapshot!("last_manager", refusal(&demo(1, 1), &[], &[0]));
    let stopped = [Damage::Killed(0)];
    assert_snapshot!("no_manager_answers", refusal(&demo(1, 2), &stopped, &[1]));
    let one_down = [Damage::Killed(1)];
    assert_snapshot!("no_majority_stays", refusal(&demo(3, 0), &one_down, &[0]));
    let three_down = [Damage::Killed(0), Damage::Killed(1), Damage::Killed(2)];
    let demotion = |spec: &ClusterSpec, damage: &[Damage], names: &[usize]| {
        let mut world = world_of(spec);
        damage.iter().for_each(|damage| world.suffer(*damage));
        let names: Vec<_> = names.iter().copied().map(name).collect();
        plan_settings(&world.look(), &names, |node| node.role = Role::Worker).unwrap_err()
    };
    assert_snapshot!("demotion_of_the_last_manager", demotion(&demo(1, 1), &[], &[0]));
    assert_snapshot!("demotion_of_a_majority", demotion(&demo(3, 0), &[Damage::Killed(1)], &[0]));
    let restart = |spec: &ClusterSpec, damage: Damage| {
        let mut world = world_of(spec);
        world.suffer(damage);
        plan_idle_stop(&world.look(), &name(0)).unwrap_err()
    };
    assert_snapshot!("restart_without_a_majority", restart(&demo(3, 0), Damage::Killed(1)));
    let recovery = |damage: &[Damage]| {
        let mut world = world_of(&demo(3, 0));
        damage.iter().for_each(|damage| world.suffer(*damage));
        plan_recover(&world.look(), &name(0)).unwrap_err()
    };
    assert_snapshot!("recovery_of_a_swarm_that_is_well", recovery(&[]));
    let asleep = recovery(&[Damage::Killed(1), Damage::Killed(2)]);
    assert_snapshot!("recovery_while_managers_sleep", asleep);
    assert_snapshot!("no_majority_is_there", refusal(&demo(5, 0), &three_down, &[0, 1, 2]));
}
