//! Plans for a cluster's registry.

use skep_core::model::{RegistrySpec, TrustedRegistry};
use skep_core::plan::{
    Action, ClusterAction, Plan, PlanError, UpOptions, plan_registry_change, plan_remove_nodes,
    plan_trust, plan_up,
};

use crate::carry_out::{Dice, End, execute, up};
use crate::specs::{demo, host, name, registry};
use crate::world::{Damage, World};

fn world() -> World {
    let mut world = World::default();
    assert_eq!(up(&mut world, &demo(1, 2), &mut Dice(0), None), Ok(End::Done));
    world
}

fn change(world: &mut World, registry: &RegistrySpec) -> Plan {
    let plan = plan_registry_change(&world.look(), registry).unwrap();
    assert_eq!(execute(world, &plan, &mut Dice(0), &mut None), End::Done);
    plan
}

fn spec(world: &World) -> skep_core::model::ClusterSpec {
    let records = world.nodes.values().map(|node| &node.record);
    world.cluster.as_ref().unwrap().spec(records)
}

#[test]
fn a_registry_is_known_to_all_nodes_to_those_that_slept_and_to_those_that_come_later() {
    let mut world = world();
    world.suffer(Damage::Killed(2));
    let wanted = RegistrySpec { mirror: Some("https://r.example".into()), ..registry(1, true) };
    let plan = change(&mut world, &wanted);
    insta::assert_snapshot!("start", format!("{}\n{plan}", plan.warnings.join("\n")));
    assert!(change(&mut world, &wanted).is_empty(), "once is enough");

    let mut grown = spec(&world);
    grown.nodes.push(skep_core::model::NodeSpec { name: name(3), ..grown.nodes[2].clone() });
    assert_eq!(up(&mut world, &grown, &mut Dice(0), None), Ok(End::Done));
    world.assert_meets(&grown);

    // Nothing is asked of a node that sleeps, and it does not stay as it was.
    world.suffer(Damage::Killed(3));
    change(&mut world, &RegistrySpec { runs: false, ..wanted });
    let stopped = spec(&world);
    assert_eq!(up(&mut world, &stopped, &mut Dice(0), None), Ok(End::Done));
    world.assert_meets(&stopped);
    assert!(world.nodes.values().all(|node| node.disk.as_ref().unwrap().registry.is_empty()));
}

#[test]
fn a_registry_that_is_there_already_is_trusted_by_all_nodes_and_by_those_that_come_later() {
    let trusted = |ca: Option<&str>| TrustedRegistry {
        at: "hub.example:5000".to_owned(),
        ca: ca.map(str::to_owned),
    };
    let mut world = world();
    change(&mut world, &registry(0, true));
    world.suffer(Damage::Killed(2));
    let plan = plan_trust(&world.look(), &[trusted(Some("a certificate"))]).unwrap();
    assert_eq!(execute(&mut world, &plan, &mut Dice(0), &mut None), End::Done);
    insta::assert_snapshot!("trust", format!("{}\n{plan}", plan.warnings.join("\n")));
    let again = plan_trust(&world.look(), &[trusted(Some("a certificate"))]).unwrap();
    assert!(again.is_empty(), "once is enough: {again}");

    let mut grown = spec(&world);
    grown.nodes.push(skep_core::model::NodeSpec { name: name(3), ..grown.nodes[2].clone() });
    assert_eq!(up(&mut world, &grown, &mut Dice(0), None), Ok(End::Done));
    world.assert_meets(&grown);

    // A node that sleeps while it is given up forgets it when it wakes up.
    world.suffer(Damage::Killed(3));
    let plan = plan_trust(&world.look(), &[]).unwrap();
    assert_eq!(execute(&mut world, &plan, &mut Dice(0), &mut None), End::Done);
    let without = spec(&world);
    assert_eq!(up(&mut world, &without, &mut Dice(0), None), Ok(End::Done));
    world.assert_meets(&without);
    let text = |node: &crate::world::Node| node.disk.as_ref().unwrap().registry.clone();
    assert!(world.nodes.values().all(|node| !text(node).contains("hub.example")));
}

#[test]
fn what_a_hosts_engine_cannot_be_told_is_said() {
    let mut with_host = demo(1, 0);
    with_host.nodes.push(host(1, skep_core::model::Role::Worker));
    let seen = World::default().look();
    let unverified = TrustedRegistry { at: "hub.example:5000".to_owned(), ca: None };
    with_host.trusted = Some(vec![unverified]);
    let error = plan_up(&with_host, &seen, UpOptions::default()).unwrap_err();
    insta::assert_snapshot!("unverified_on_a_host", error);
    with_host.trusted = None;
    let mirror = Some("https://r.example".to_owned());
    with_host.registry = Some(RegistrySpec { mirror, ..registry(0, true) });
    let mut world = World::default();
    assert_eq!(up(&mut world, &with_host, &mut Dice(0), None), Ok(End::Done));
    change(&mut world, &RegistrySpec { runs: false, ..with_host.registry.clone().unwrap() });
    let plan = change(&mut world, &with_host.registry.unwrap());
    assert_eq!(plan.warnings.len(), 1, "{:?}", plan.warnings);
    assert!(plan.warnings[0].contains("does not use the mirror"), "{:?}", plan.warnings);
}

#[test]
fn what_a_registry_cannot_be_is_told_before_anything_is_touched() {
    let mut world = world();
    let refusal = |world: &World, wanted: &RegistrySpec| {
        plan_registry_change(&world.look(), wanted).unwrap_err()
    };
    assert!(matches!(refusal(&world, &registry(9, true)), PlanError::UnknownNode { .. }));
    let low = RegistrySpec { port: 80, ..registry(0, true) };
    assert!(matches!(refusal(&world, &low), PlanError::Spec(_)));
    change(&mut world, &registry(0, true));
    let elsewhere = refusal(&world, &registry(1, true));
    insta::assert_snapshot!("elsewhere", elsewhere);
    world.suffer(Damage::Killed(1));
    let moved = RegistrySpec { runs: false, ..registry(0, true) };
    change(&mut world, &moved);
    assert!(matches!(refusal(&world, &registry(1, true)), PlanError::NoEngine { .. }));

    let mut with_host = demo(1, 0);
    with_host.nodes.push(host(1, skep_core::model::Role::Worker));
    with_host.registry = Some(registry(1, true));
    let seen = World::default().look();
    let error = plan_up(&with_host, &seen, UpOptions::default()).unwrap_err();
    insta::assert_snapshot!("on_a_host", error);
}

#[test]
fn the_registrys_node_is_not_removed_unless_it_is_forced() {
    let mut world = world();
    change(&mut world, &registry(2, true));
    let error = plan_remove_nodes(&world.look(), &[name(2)], false).unwrap_err();
    assert_eq!(error, PlanError::Registry(name(2)));
    let plan = plan_remove_nodes(&world.look(), &[name(2)], true).unwrap();
    let forgotten = |action: &Action| matches!(action, Action::Cluster(ClusterAction::RecordCluster(record)) if record.registry.is_none());
    assert!(plan.steps.iter().any(|step| forgotten(&step.action)));
    // One that was stopped goes without a word.
    change(&mut world, &RegistrySpec { runs: false, ..registry(2, true) });
    assert!(plan_remove_nodes(&world.look(), &[name(2)], false).is_ok());
}
