//! Plans as `--dry-run` prints them, each with the warnings that come with it.

use std::collections::BTreeMap;

use insta::assert_snapshot;
use skep_core::fixtures;
use skep_core::model::{Availability, ClusterSpec, ImageSet, NodeSpec, Role, Size};
use skep_core::observed::{EngineState, Observed};
use skep_core::plan::{
    Plan, StopMode, UpOptions, Verify, plan_down, plan_hostnames, plan_idle_stop, plan_load,
    plan_pause, plan_recover, plan_remove_nodes, plan_resume, plan_settings, plan_start, plan_stop,
    plan_up,
};

use crate::carry_out::{Crash, Dice, End, execute, up};
use crate::specs::{demo, host, hostname, images, name, node};
use crate::world::{Damage, World};

/// Returns a world in which that cluster is up.
pub fn world_of(spec: &ClusterSpec) -> World {
    let mut world = World::default();
    assert_eq!(up(&mut world, spec, &mut Dice(0), None), Ok(End::Done));
    world
}

fn damaged(spec: &ClusterSpec, damage: &[Damage]) -> Observed {
    let mut world = world_of(spec);
    damage.iter().for_each(|damage| world.suffer(*damage));
    world.look()
}

pub fn show(plan: &Plan) -> String {
    let warnings: String =
        plan.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    match plan.is_empty() {
        true => format!("{warnings}nothing to do\n{plan}"),
        false => format!("{warnings}{plan}"),
    }
}

pub fn show_up(spec: &ClusterSpec, seen: &Observed) -> String {
    show(&plan_up(spec, seen, UpOptions::default()).unwrap())
}

fn labelled() -> ClusterSpec {
    let mut spec = demo(3, 2);
    for node in &mut spec.nodes[3..] {
        node.labels = BTreeMap::from([("tier".to_owned(), "web".to_owned())]);
    }
    spec.hostnames = vec![hostname("data.example", None), hostname("web.example", Some(4))];
    spec
}

#[test]
fn up_of_a_new_cluster() {
    assert_snapshot!(show_up(&demo(1, 1), &Observed::default()));
}

#[test]
fn up_of_a_new_cluster_with_labels_and_hostnames() {
    assert_snapshot!(show_up(&labelled(), &Observed::default()));
}

#[test]
fn up_of_a_new_cluster_waits_and_verifies_as_it_is_asked_to() {
    let plan = |options| show(&plan_up(&demo(1, 1), &Observed::default(), options).unwrap());
    assert_snapshot!(
        "up_without_wait",
        plan(UpOptions { wait: false, verify: Verify::Nothing, ..UpOptions::default() })
    );
    assert_snapshot!(
        "up_with_all_verified",
        plan(UpOptions { verify: Verify::All, ..UpOptions::default() })
    );
    assert_snapshot!(
        "up_without_verify",
        plan(UpOptions { verify: Verify::Nothing, ..UpOptions::default() })
    );
}

#[test]
fn up_of_a_cluster_that_is_up() {
    let spec = labelled();
    assert_eq!(show_up(&spec, &world_of(&spec).look()), "nothing to do\n");
}

#[test]
fn up_after_a_verification_that_was_cut_off() {
    let spec = demo(1, 1);
    let mut world = world_of(&spec);
    world.probed = true;
    assert_snapshot!(show_up(&spec, &world.look()));
    let plan = plan_up(
        &spec,
        &world.look(),
        UpOptions { verify: Verify::Nothing, ..UpOptions::default() },
    )
    .unwrap();
    assert_snapshot!("up_without_verify_after_one_that_was_cut_off", show(&plan));
}

#[test]
fn up_with_an_even_number_of_managers() {
    let spec = demo(2, 0);
    assert_snapshot!(show_up(&spec, &world_of(&spec).look()));
}

#[test]
fn up_with_one_machine_stopped() {
    let spec = demo(1, 1);
    assert_snapshot!(show_up(&spec, &damaged(&spec, &[Damage::Killed(1)])));
}

#[test]
fn up_with_one_machine_crashed() {
    let spec = demo(1, 1);
    assert_snapshot!(show_up(&spec, &damaged(&spec, &[Damage::Crashed(1)])));
}

#[test]
fn up_with_one_machine_paused() {
    let spec = demo(1, 1);
    assert_snapshot!(show_up(&spec, &damaged(&spec, &[Damage::Paused(1)])));
}

#[test]
fn up_after_the_host_restarted() {
    let spec = demo(1, 1);
    assert_snapshot!(show_up(&spec, &damaged(&spec, &[Damage::Restarted])));
}

#[test]
fn up_with_a_node_whose_disk_is_gone() {
    let spec = demo(1, 1);
    assert_snapshot!(show_up(&spec, &damaged(&spec, &[Damage::NoDisk(1)])));
}

#[test]
fn up_with_a_node_whose_record_is_gone() {
    let spec = demo(1, 1);
    assert_snapshot!(show_up(&spec, &damaged(&spec, &[Damage::NoNode(1)])));
}

#[test]
fn up_with_an_engine_that_does_not_answer() {
    let spec = demo(1, 1);
    let mut seen = world_of(&spec).look();
    let node = seen.nodes.get_mut(&name(1)).unwrap();
    node.engine = EngineState::Unreachable("no answer within 2.0s".to_owned());
    assert_snapshot!(show_up(&spec, &seen));
}

#[test]
fn up_where_the_managers_cannot_tell_of_the_swarm() {
    let spec = labelled();
    let seen = Observed { swarm: None, ..world_of(&spec).look() };
    assert_snapshot!(show_up(&spec, &seen));
}

#[test]
fn up_without_certificates() {
    let spec = demo(1, 0);
    assert_snapshot!(show_up(&spec, &damaged(&spec, &[Damage::NoCertificates])));
}

#[test]
fn up_with_another_image() {
    let mut spec = demo(1, 1);
    let seen = world_of(&spec).look();
    spec.image.suite = "forky".to_owned();
    assert_snapshot!(show_up(&spec, &seen));
}

#[test]
fn up_with_other_labels_and_roles() {
    let before = labelled();
    let mut spec = before.clone();
    spec.nodes[4].labels = BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]);
    spec.nodes[0].role = Role::Worker;
    spec.nodes[3].role = Role::Manager;
    assert_snapshot!(show_up(&spec, &world_of(&before).look()));
}

#[test]
fn up_with_another_size() {
    let mut spec = demo(1, 0);
    let seen = world_of(&spec).look();
    fixtures::shape(&mut spec.nodes[0]).cpus = 2;
    assert_snapshot!(show_up(&spec, &seen));
}

#[test]
fn up_with_a_node_more() {
    let mut spec = demo(1, 1);
    let seen = world_of(&spec).look();
    spec.nodes.push(node(2, Role::Worker));
    assert_snapshot!(show_up(&spec, &seen));
}

#[test]
fn up_with_a_worker_that_is_not_wanted_any_more() {
    let seen = world_of(&demo(1, 1)).look();
    assert_snapshot!(show_up(&demo(1, 0), &seen));
}

#[test]
fn up_where_a_manager_that_is_not_wanted_any_more_sleeps() {
    let seen = damaged(&demo(2, 0), &[Damage::Restarted]);
    assert_snapshot!(show_up(&demo(1, 0), &seen));
}

#[test]
fn up_of_a_cluster_whose_last_manager_was_removed_by_force() {
    let spec = demo(1, 1);
    let mut world = world_of(&spec);
    let removal = plan_remove_nodes(&world.look(), &[name(0)], true).unwrap();
    assert_eq!(execute(&mut world, &removal, &mut Dice(0), &mut None), End::Done);
    assert_snapshot!(show_up(&spec, &world.look()));
    assert_eq!(up(&mut world, &spec, &mut Dice(0), None), Ok(End::Done));
    world.assert_meets(&spec);
}

#[test]
fn down_of_a_cluster_that_is_up() {
    assert_snapshot!(show(&plan_down(&world_of(&labelled()).look())));
}

#[test]
fn down_of_a_cluster_after_the_host_restarted() {
    assert_snapshot!(show(&plan_down(&damaged(&demo(1, 1), &[Damage::Restarted]))));
}

#[test]
fn down_of_nothing() {
    assert_eq!(show(&plan_down(&Observed::default())), "nothing to do\n");
}

#[test]
fn start_after_the_host_restarted() {
    let seen = damaged(&demo(1, 1), &[Damage::Restarted]);
    let start = |names: &[_]| show(&plan_start(&seen, names, UpOptions::default()).unwrap());
    assert_snapshot!("start_of_all", start(&[]));
    assert_snapshot!("start_of_one", start(&[name(1)]));
}

#[test]
fn start_of_a_node_that_runs() {
    let seen = damaged(&demo(1, 1), &[Damage::Killed(0)]);
    let plan = plan_start(&seen, &[name(1)], UpOptions::default()).unwrap();
    assert_eq!(show(&plan), "nothing to do\n");
}

#[test]
fn stop_of_all_and_of_one() {
    let seen = world_of(&demo(1, 2)).look();
    let stop = |names: &[_], mode| show(&plan_stop(&seen, names, mode).unwrap());
    assert_snapshot!("stop_of_all", stop(&[], StopMode::Graceful));
    assert_snapshot!("kill_of_all", stop(&[], StopMode::Kill));
    assert_snapshot!("stop_of_one", stop(&[name(1)], StopMode::Graceful));
}

#[test]
fn removal_of_a_worker_with_a_hostname() {
    let plan = plan_remove_nodes(&world_of(&labelled()).look(), &[name(4)], false).unwrap();
    assert_snapshot!(show(&plan));
}

#[test]
fn a_host_lets_a_node_in_that_joins_and_keeps_it_out_when_it_has_left() {
    let mut spec = demo(1, 1);
    spec.nodes[1] = host(1, Role::Worker);
    assert_snapshot!("up_with_a_host", show_up(&spec, &Observed::default()));
    let mut larger = spec.clone();
    larger.nodes.push(node(2, Role::Worker));
    assert_snapshot!("another_node_beside_a_host", show_up(&larger, &world_of(&spec).look()));
    let plan = plan_remove_nodes(&world_of(&larger).look(), &[name(2)], false).unwrap();
    assert_snapshot!("removal_of_a_node_beside_a_host", show(&plan));
}

#[test]
fn removal_of_managers_one_of_which_is_down() {
    let seen = damaged(&demo(5, 0), &[Damage::Killed(1)]);
    let plan = plan_remove_nodes(&seen, &[name(0), name(1)], false).unwrap();
    assert_snapshot!(show(&plan));
}

#[test]
fn removal_by_force_where_no_majority_would_stay() {
    let seen = damaged(&demo(3, 0), &[Damage::Killed(2)]);
    let plan = plan_remove_nodes(&seen, &[name(0)], true).unwrap();
    assert_snapshot!(show(&plan));
}

#[test]
fn removal_by_force_while_a_leader_does_not_know_yet_that_it_is_alone() {
    let mut seen = damaged(&demo(3, 0), &[Damage::Killed(1), Damage::Killed(2)]);
    assert_eq!(seen.swarm, None);
    seen.swarm = world_of(&demo(3, 0)).look().swarm;
    let others = [name(1), name(2)];
    let refused = plan_remove_nodes(&seen, &others, false).unwrap_err().to_string();
    assert!(refused.contains("1 of the 3 managers answer"), "{refused}");
    assert_snapshot!(show(&plan_remove_nodes(&seen, &others, true).unwrap()));
}

#[test]
fn other_hostnames() {
    let seen = world_of(&labelled()).look();
    let plan = |hostnames: &[_]| show(&plan_hostnames(&seen, hostnames).unwrap());
    assert_snapshot!("hostnames_changed", plan(&[hostname("data.example", Some(1))]));
    assert_snapshot!("hostnames_removed", plan(&[]));
    assert_eq!(plan(&labelled().hostnames), "nothing to do\n");
    assert_eq!(show(&plan_hostnames(&Observed::default(), &[]).unwrap()), "nothing to do\n");
}

#[test]
fn images_are_loaded_where_they_are_not_and_where_something_answers() {
    let spec = demo(1, 2);
    let mut world = world_of(&spec);
    let set = images("app.tar", &[1]);
    world.nodes.get_mut(&name(1)).unwrap().disk.as_mut().unwrap().images.add(&set);
    world.suffer(Damage::Killed(2));
    let seen = world.look();
    let plan = |names: &[_]| plan_load(&seen, std::slice::from_ref(&set), names);
    assert_snapshot!("load_on_all", show(&plan(&[]).unwrap()));
    assert_eq!(show(&plan(&[name(1)]).unwrap()), "nothing to do\n");
    assert_eq!(
        plan(&[name(2)]).unwrap_err().to_string(),
        "the engine of node2 is unreachable: its machine is not running"
    );
    // What is in a pipe is known when it is too late.
    let pipe = ImageSet { source: "-".into(), images: Vec::new() };
    let plan = plan_load(&seen, &[pipe], &[name(1)]).unwrap();
    assert_eq!(plan.steps.len(), 1);
}

#[test]
fn two_shapes_are_made_warm_at_the_same_time_and_each_node_waits_for_its_own() {
    let mut spec = demo(1, 2);
    fixtures::shape(&mut spec.nodes[1]).memory = Size::gib(2);
    assert_snapshot!(show_up(&spec, &Observed::default()));
}

/// Plans what a node is to be in the swarm.
fn show_settings(seen: &Observed, names: &[usize], edit: impl Fn(&mut NodeSpec)) -> String {
    let names: Vec<_> = names.iter().copied().map(name).collect();
    show(&plan_settings(seen, &names, edit).unwrap())
}

#[test]
fn settings_are_written_down_before_they_are_made() {
    let seen = world_of(&demo(3, 2)).look();
    let drained = |node: &mut NodeSpec| node.availability = Some(Availability::Drain);
    assert_snapshot!("drain", show_settings(&seen, &[3, 4], drained));
    let promoted = |node: &mut NodeSpec| node.role = Role::Manager;
    assert_snapshot!("promote", show_settings(&seen, &[3, 4], promoted));
    let demoted = |node: &mut NodeSpec| node.role = Role::Worker;
    assert_snapshot!("demote", show_settings(&seen, &[0, 2], demoted));
    let labelled = |node: &mut NodeSpec| drop(node.labels.insert("a".into(), "1".into()));
    assert_snapshot!("label", show_settings(&seen, &[1], labelled));
    let asleep = damaged(&demo(1, 2), &[Damage::Killed(2)]);
    assert_snapshot!("label_of_a_node_that_sleeps", show_settings(&asleep, &[1, 2], labelled));
}

#[test]
fn up_with_a_node_that_is_to_be_drained() {
    let mut spec = demo(1, 1);
    let seen = world_of(&spec).look();
    spec.nodes[1].availability = Some(Availability::Drain);
    assert_snapshot!(show_up(&spec, &seen));
    spec.nodes[0].availability = Some(Availability::Drain);
    let plan = show_up(&spec, &Observed::default());
    assert!(!plan.contains("verify"), "where no node takes tasks there is nothing to verify with");
}

#[test]
fn what_was_set_is_not_undone_by_the_next_up() {
    let mut world = world_of(&demo(3, 1));
    type Edit = fn(&mut NodeSpec);
    let settings: [(usize, Edit); 4] = [
        (3, |node| node.availability = Some(Availability::Drain)),
        (3, |node| drop(node.labels.insert("a".into(), "1".into()))),
        (1, |node| node.role = Role::Worker),
        (3, |node| node.role = Role::Manager),
    ];
    for (node, edit) in settings {
        let plan = plan_settings(&world.look(), &[name(node)], edit).unwrap();
        // However far it came, `up` goes on with it.
        for after in 0..plan.steps.len() {
            let mut cut = world.clone();
            let crash = Crash { after, midway: false };
            execute(&mut cut, &plan, &mut Dice(0), &mut Some(crash));
            let Some(record) = cut.cluster.clone().filter(|_| after > 0) else { continue };
            let mut wanted = record.spec(cut.nodes.values().map(|node| &node.record));
            edit(wanted.nodes.iter_mut().find(|it| it.name == name(node)).unwrap());
            let spec = record.spec(cut.nodes.values().map(|node| &node.record));
            assert_eq!(spec, wanted, "the wish is the first thing that is written");
            assert_eq!(up(&mut cut, &spec, &mut Dice(0), None), Ok(End::Done));
            cut.assert_meets(&spec);
        }
        assert_eq!(execute(&mut world, &plan, &mut Dice(0), &mut None), End::Done);
        let record = world.cluster.clone().unwrap();
        let spec = record.spec(world.nodes.values().map(|node| &node.record));
        assert_eq!(show_up(&spec, &world.look()).lines().last(), Some("nothing to do"));
    }
}

#[test]
fn a_rolling_restart_empties_a_node_first() {
    let mut world = world_of(&demo(1, 2));
    let plan = plan_idle_stop(&world.look(), &name(1)).unwrap();
    assert_snapshot!(show(&plan));
    assert_eq!(execute(&mut world, &plan, &mut Dice(0), &mut None), End::Done);
    // What an `up` finds that comes in between.
    let record = world.cluster.clone().unwrap();
    let spec = record.spec(world.nodes.values().map(|node| &node.record));
    assert_eq!(up(&mut world, &spec, &mut Dice(0), None), Ok(End::Done));
    world.assert_meets(&spec);
    assert_eq!(spec.nodes[1].availability, Some(Availability::Active));
    assert_snapshot!(
        "restart_of_the_only_manager",
        show(&plan_idle_stop(&world.look(), &name(0)).unwrap())
    );
}

#[test]
fn pause_and_resume() {
    let seen = damaged(&demo(1, 2), &[Damage::Paused(1), Damage::Killed(2)]);
    let all = [name(0), name(1), name(2)];
    assert_snapshot!("pause", show(&plan_pause(&seen, &all).unwrap()));
    assert_snapshot!("resume", show(&plan_resume(&seen, &all, UpOptions::default()).unwrap()));
}

#[test]
fn a_swarm_without_a_majority_is_formed_anew_by_one_manager() {
    let mut world = world_of(&demo(3, 1));
    world.suffer(Damage::Killed(1));
    world.suffer(Damage::Killed(2));
    let removal = plan_remove_nodes(&world.look(), &[name(1), name(2)], true).unwrap();
    assert_eq!(execute(&mut world, &removal, &mut Dice(0), &mut None), End::Done);
    assert_eq!(world.look().swarm, None);
    let plan = plan_recover(&world.look(), &name(0)).unwrap();
    assert_snapshot!(show(&plan));
    // Without a leader an engine does not answer what it is asked of its swarm.
    let mut deaf = world.look();
    deaf.nodes.get_mut(&name(0)).unwrap().engine = EngineState::Unreachable("late".to_owned());
    assert_eq!(plan_recover(&deaf, &name(0)), Ok(plan.clone()));
    assert_eq!(execute(&mut world, &plan, &mut Dice(0), &mut None), End::Done);
    let spec = demo(3, 1);
    assert_eq!(up(&mut world, &spec, &mut Dice(0), None), Ok(End::Done));
    world.assert_meets(&spec);
}
