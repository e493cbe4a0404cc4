//! Machines without a swarm of skep's: plans as they would be printed, and crashes.

use insta::assert_snapshot;
use skep_core::model::{ClusterSpec, Role};
use skep_core::observed::{Leftover, Observed};
use skep_core::plan::{
    Birth, NodeAction, Plan, UsualAddresses, plan_machine_engine, plan_machine_removal,
    plan_machine_upgrade, plan_machines_up, reservation,
};

use crate::carry_out::{Crash, Dice, End, execute};
use crate::specs::{demo, name, node};
use crate::world::{Damage, World};

fn one(index: usize) -> ClusterSpec {
    ClusterSpec { nodes: vec![node(index, Role::Worker)], ..demo(0, 0) }
}

/// Certificates are each machine's own affair, so they are never missed.
fn look(world: &World) -> Observed {
    Observed { certificates: true, ..world.look() }
}

fn plan_up(world: &World, index: usize) -> Plan {
    let birth = Birth::Fork { restart_engine: false };
    plan_machines_up(&one(index), &look(world), birth, UsualAddresses::default()).unwrap()
}

fn carry_out(world: &mut World, plan: &Plan) {
    assert_eq!(execute(world, plan, &mut Dice(0), &mut None), End::Done);
}

fn machines(count: usize) -> World {
    let mut world = World::default();
    for index in 0..count {
        let plan = plan_up(&world, index);
        carry_out(&mut world, &plan);
    }
    world
}

#[test]
fn the_first_machine_and_the_second() {
    let world = World::default();
    assert_snapshot!("first_machine", plan_up(&world, 0));
    assert_snapshot!("reservation_of_machines", reservation(plan_up(&world, 0)));
    assert_snapshot!("second_machine", plan_up(&machines(1), 1));
    assert!(plan_up(&machines(2), 1).is_empty());
}

/// Scripts and tutorials have 192.168.99.100 written down.
#[test]
fn the_first_machine_has_the_address_that_scripts_expect_if_its_network_is_free() {
    let subnet = "192.168.99.0/24".parse().unwrap();
    let usual = UsualAddresses { subnet: Some(subnet), first: 98 };
    let birth = Birth::Fork { restart_engine: false };
    let place = |world: &World, index: usize, spec: ClusterSpec| {
        let plan = plan_machines_up(&spec, &look(world), birth, usual).unwrap();
        let record = plan.steps.iter().find_map(|step| match step.action.on_node() {
            Some(NodeAction::RecordNode(record)) => Some(record.address.to_string()),
            _ => None,
        });
        (plan, record.unwrap_or_else(|| panic!("machine {index} is not recorded")))
    };
    let mut world = World::default();
    let (plan, address) = place(&world, 0, one(0));
    assert_eq!(address, "192.168.99.100");
    carry_out(&mut world, &plan);
    assert_eq!(place(&world, 1, one(1)).1, "192.168.99.101");
    let other = ClusterSpec { subnet: Some("10.5.0.0/24".parse().unwrap()), ..one(0) };
    assert_eq!(place(&World::default(), 0, other).1, "10.5.0.100", "what is asked for counts");

    let mut world = World::default();
    world.host.subnets.push((subnet, "vboxnet0".into()));
    assert_eq!(place(&world, 0, one(0)).1, "10.193.0.100");
    let mut world = World::default();
    world.host.granted = Some(vec!["172.20.0.0/23".parse().unwrap()]);
    assert_eq!(
        place(&world, 0, one(0)).1,
        "172.20.0.100",
        "what this user may not have is not taken"
    );
    world.host.granted = Some(vec!["172.20.0.0/29".parse().unwrap()]);
    assert_eq!(place(&world, 0, one(0)).1, "172.20.0.2", "a small network has no place so high");
}

#[test]
fn a_machine_starts_after_the_host_did() {
    let mut world = machines(2);
    world.suffer(Damage::Restarted);
    assert_snapshot!(plan_up(&world, 1));
}

#[test]
fn a_machines_engine_is_set_up() {
    assert_snapshot!("engine_of_a_new_machine", plan_machine_engine(&name(0), false));
    assert_snapshot!("engine_of_an_old_machine", plan_machine_engine(&name(0), true));
    let mut world = machines(1);
    carry_out(&mut world, &plan_machine_engine(&name(0), true));
    assert_snapshot!("upgrade_of_an_engine", plan_machine_upgrade(&name(0)));
    carry_out(&mut world, &plan_machine_upgrade(&name(0)));
}

#[test]
fn the_last_machine_takes_all_with_it() {
    let mut world = machines(2);
    let first = plan_machine_removal(&look(&world), &name(0));
    assert_snapshot!("removal_of_the_first", first);
    carry_out(&mut world, &first);
    let last = plan_machine_removal(&look(&world), &name(1));
    assert_snapshot!("removal_of_the_last", last);
    carry_out(&mut world, &last);
    assert_snapshot!("removal_of_none", plan_machine_removal(&look(&world), &name(1)));
}

#[test]
fn one_that_cannot_be_read_keeps_what_it_needs() {
    let mut seen = look(&machines(1));
    seen.leftovers.push(Leftover::Node("node1".to_owned()));
    assert_snapshot!("removal_beside_a_damaged_one", plan_machine_removal(&seen, &name(0)));
    seen.nodes.clear();
    assert_snapshot!("removal_of_a_damaged_one", plan_machine_removal(&seen, &name(1)));
}

#[test]
fn wherever_it_is_cut_off_it_can_be_gone_on_with_and_removed() {
    let steps = plan_up(&World::default(), 0).steps.len();
    for after in 0..steps {
        for midway in [false, true] {
            let mut world = World::default();
            let plan = plan_up(&world, 0);
            let end = execute(&mut world, &plan, &mut Dice(7), &mut Some(Crash { after, midway }));
            assert_eq!(end, End::Crashed);
            let mut mended = world.clone();
            let plan = plan_up(&mended, 0);
            carry_out(&mut mended, &plan);
            assert!(plan_up(&mended, 0).is_empty(), "after {after}");
            let plan = plan_machine_removal(&look(&world), &name(0));
            carry_out(&mut world, &plan);
            assert!(world.cluster.is_none() && world.nodes.is_empty(), "after {after}");
            assert!(world.links.is_empty() && world.tables.is_empty(), "after {after}");
        }
    }
}
