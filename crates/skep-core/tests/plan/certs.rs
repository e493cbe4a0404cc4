//! New certificates for clusters that go on: plans as they are printed, and what is refused.

use insta::assert_snapshot;
use skep_core::model::Role;
use skep_core::observed::{ContextState, MachineState, Observed, Rotation};
use skep_core::plan::{Action, ClusterAction, Plan, plan_renew, plan_rotate};

use crate::carry_out::{Dice, End, up};
use crate::specs::{demo, host, name};
use crate::world::World;

fn world() -> World {
    let mut spec = demo(1, 2);
    spec.nodes[2] = host(2, Role::Worker);
    let mut world = World::default();
    assert_eq!(up(&mut world, &spec, &mut Dice(0), None), Ok(End::Done));
    world
}

fn with(machine: MachineState, node: usize) -> Observed {
    let mut seen = world().look();
    seen.nodes.get_mut(&name(node)).unwrap().machine = machine;
    seen
}

#[test]
fn a_node_is_told_twice_before_the_old_authority_is_gone() {
    let seen = world().look();
    assert_snapshot!("rotation", plan_rotate(&seen, Rotation::Settled, false).unwrap());
    assert_snapshot!(
        "rotation_gone_on_with",
        plan_rotate(&seen, Rotation::Withdrawing, false).unwrap()
    );
    assert_snapshot!("renewal", plan_renew(&seen).unwrap());
}

#[test]
fn an_authority_out_of_time_is_spread_to_nobody() {
    let seen = world().look();
    let plan = |rotation| plan_rotate(&seen, rotation, true).unwrap();
    assert_snapshot!("rotation_out_of_time", plan(Rotation::Settled));
    assert_eq!(plan(Rotation::Spreading).to_string(), plan(Rotation::Settled).to_string());
    let again = plan(Rotation::Withdrawing);
    let first: Vec<_> = again.steps[..3].iter().map(|step| &step.action).collect();
    let order = [
        ClusterAction::WithdrawAuthority,
        ClusterAction::PrepareAuthority,
        ClusterAction::SwitchAuthority,
    ];
    assert_eq!(first, order.map(Action::Cluster).iter().collect::<Vec<_>>());
}

#[test]
fn the_docker_command_s_copy_is_never_one_that_nodes_refuse() {
    let mut seen = world().look();
    seen.context = ContextState::Ours { address: None, current: true };
    seen.cluster.as_mut().unwrap().access.docker_config = Some("docker-config".into());
    let cluster_steps = |plan: Plan| {
        let titles = plan.steps.iter().filter(|step| step.action.node().is_none());
        titles.map(|step| step.action.to_string()).collect::<Vec<_>>()
    };
    let address = seen.nodes[&name(0)].record.address;
    let context = format!("create docker context for {address}");
    let rotation = cluster_steps(plan_rotate(&seen, Rotation::Settled, false).unwrap());
    assert_eq!((&rotation[2], &rotation[4]), (&context, &context), "{rotation:?}");
    assert_eq!(cluster_steps(plan_renew(&seen).unwrap())[1], context);
}

#[test]
fn a_machine_that_is_off_gets_its_certificate_later() {
    let plan = plan_renew(&with(MachineState::Stopped, 1)).unwrap();
    assert_eq!(plan.warnings, ["node1 is not running; it gets its certificate when it starts"]);
    assert!(!plan.to_string().contains("node1: provision"), "{plan}");
}

#[test]
fn what_cannot_be_told_is_named_before_anything_is_touched() {
    let refused = |seen| plan_rotate(&seen, Rotation::Settled, false).unwrap_err().to_string();
    assert_eq!(
        refused(with(MachineState::Paused, 1)),
        "cannot install a certificate on node1: it is paused (skep node resume node1)"
    );
    assert_eq!(
        refused(with(MachineState::Stopped, 2)),
        "cannot install a certificate on node2: the host does not answer \
         (skep node rm --force node2 removes it from the cluster)"
    );
}
