//! What is kept and what is removed after a run that failed.

use skep_core::observed::{EngineState, Observed};
use skep_core::plan::{
    Action, Aftermath, Attempt, ClusterAction, Standing, UpOptions, plan_aftermath, plan_down,
    plan_up,
};

use crate::goldens::world_of;
use crate::specs::{demo, name};
use crate::world::Damage;

const NEW: Attempt = Attempt { is_new: true, formed: false };

/// Returns what is seen of a cluster whose engines answer nobody.
fn silent() -> Observed {
    let mut seen = world_of(&demo(1, 2)).look();
    seen.swarm = None;
    for node in seen.nodes.values_mut() {
        node.engine = EngineState::Unreachable("it says nothing".to_owned());
    }
    seen
}

#[test]
fn only_what_never_had_a_swarm_is_removed() {
    let seen = silent();
    assert_eq!(plan_aftermath(NEW, &seen), Aftermath::Remove(plan_down(&seen)));
    let keep = Aftermath::Keep(Default::default());
    assert_eq!(plan_aftermath(Attempt { formed: true, ..NEW }, &seen), keep, "it was formed");
    assert_eq!(
        plan_aftermath(Attempt { is_new: false, ..NEW }, &seen),
        keep,
        "it was there before"
    );
    // One member is enough, whatever the run knows of it.
    let seen = world_of(&demo(1, 2)).look();
    assert_eq!(plan_aftermath(NEW, &seen), keep);
}

#[test]
fn what_served_a_verification_is_removed_from_a_cluster_that_is_kept() {
    let mut world = world_of(&demo(3, 0));
    world.probed = true;
    world.kill(&name(0));
    let Aftermath::Keep(plan) = plan_aftermath(NEW, &world.look()) else { panic!("it is removed") };
    let [step] = &plan.steps[..] else { panic!("{plan}") };
    assert_eq!(
        step.action,
        Action::Cluster(ClusterAction::RemoveProbe { through: vec![name(1), name(2)] })
    );
}

#[test]
fn the_user_is_told_what_works_and_what_does_not() {
    let mut world = world_of(&demo(1, 3));
    world.suffer(Damage::Killed(2));
    let mut seen = world.look();
    seen.cluster.as_mut().unwrap().nodes.push(demo(0, 5).nodes[4].clone());
    let node1 = seen.nodes.get_mut(&name(1)).unwrap();
    node1.engine = EngineState::Inactive { version: "26".to_owned() };
    let told = Standing::of(&seen).unwrap().to_string();
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(
        lines,
        [
            "cluster demo is kept: 2 of 5 nodes are Ready",
            "  node1: it has not joined the swarm",
            "  node2: the machine is not running",
            "  node4: not created yet",
        ]
    );
    let told = Standing::of(&silent()).unwrap().to_string();
    let kept = "cluster demo is kept; no manager reports which nodes are Ready";
    assert_eq!(told.lines().next(), Some(kept));
    assert_eq!(told.lines().nth(1), Some("  node0: the engine does not answer: it says nothing"));
    assert!(Standing::of(&world_of(&demo(1, 1)).look()).unwrap().is_whole());
    assert_eq!(Standing::of(&Observed::default()), None);
}

#[test]
fn nothing_but_the_way_to_the_swarm_is_vital() {
    let plan = plan_up(&demo(1, 1), &Observed::default(), UpOptions::default()).unwrap();
    let vital = plan.vital_steps();
    let names = |wanted: bool| {
        let steps = plan.steps.iter().zip(&vital).filter(|(_, vital)| **vital == wanted);
        steps.map(|(step, _)| step.to_string()).collect::<Vec<_>>()
    };
    assert!(names(true).contains(&"node0: form swarm".to_owned()), "{:?}", names(true));
    assert!(names(true).iter().all(|step| !step.starts_with("node1")), "{:?}", names(true));
    assert!(names(false).iter().any(|step| step.starts_with("node1: join")), "{:?}", names(false));
    let more = plan_up(&demo(1, 2), &world_of(&demo(1, 1)).look(), UpOptions::default()).unwrap();
    assert!(more.vital_steps().iter().all(|vital| !vital), "a swarm is there:\n{more}");
}
