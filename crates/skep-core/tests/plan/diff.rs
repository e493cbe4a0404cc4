//! What plans change, as `--dry-run` prints it.

use std::fmt::Write as _;

use proptest::prelude::*;
use skep_core::fixtures;
use skep_core::model::{Availability, ClusterSpec, Role, Size, TrustedRegistry};
use skep_core::observed::Observed;
use skep_core::plan::{
    Action, ClusterAction, Mark, NodeAction, Plan, StopMode, UpOptions, diff, plan_down,
    plan_remove_nodes, plan_renew, plan_settings, plan_stop, plan_up,
};

use crate::carry_out::Dice;
use crate::goldens::world_of;
use crate::properties::{any_trouble, config, suffer};
use crate::specs::{any_change, demo, host, hostname, images, name, node, registry};
use crate::world::{Damage, World};

fn show(text: &mut String, title: &str, seen: &Observed, plan: &Plan) {
    writeln!(text, "# {title}").unwrap();
    let changes = diff(&"demo".parse().unwrap(), seen, plan);
    changes.iter().for_each(|change| writeln!(text, "{change}").unwrap());
    text.push('\n');
}

fn up(spec: &ClusterSpec, seen: &Observed) -> Plan {
    plan_up(spec, seen, UpOptions::default()).unwrap()
}

/// A cluster with one of everything.
fn full() -> ClusterSpec {
    let mut spec = demo(1, 2);
    spec.nodes.push(host(3, Role::Worker));
    spec.nodes[1].labels.insert("disk".into(), "fast".into());
    let shape = fixtures::shape(&mut spec.nodes[2]);
    (shape.cpus, shape.memory) = (4, Size::gib(8));
    spec.hostnames = vec![hostname("shop.example", None), hostname("api.example", Some(1))];
    spec.access.ports = vec![80, 8080];
    spec.images = vec![images("app.tar", &[1])];
    spec.registry = Some(registry(0, true));
    let at = "hub.example:5000".to_owned();
    spec.trusted = Some(vec![TrustedRegistry { at, ca: Some("PEM".into()) }]);
    spec
}

#[test]
fn what_up_changes() {
    let mut text = String::new();
    let spec = full();
    let nothing = Observed { docker_config: Some("/root/.docker".into()), ..Observed::default() };
    show(&mut text, "a new cluster", &nothing, &up(&spec, &nothing));

    let seen = world_of(&spec).look();
    show(&mut text, "nothing", &seen, &up(&spec, &seen));

    let mut other = spec.clone();
    other.nodes[0].labels.insert("a".into(), "b".into());
    other.nodes[1].labels.insert("disk".into(), "slow".into());
    other.nodes[1].availability = Some(Availability::Drain);
    other.nodes[2].labels.insert("zone".into(), "east".into());
    fixtures::shape(&mut other.nodes[2]).memory = Size::mib(8704);
    other.nodes[2].role = Role::Manager;
    other.nodes.push(node(4, Role::Worker));
    other.hostnames = vec![hostname("shop.example", Some(1)), hostname("www.example", None)];
    other.access.ports = vec![80, 443];
    other.images = vec![images("app.tar", &[2]), images("web.tar", &[3])];
    other.registry = Some(registry(0, false));
    other.trusted = Some(Vec::new());
    show(&mut text, "another specification", &seen, &up(&other, &seen));
    let mut fewer = spec.clone();
    fewer.nodes[1].labels.clear();
    show(&mut text, "a label less", &seen, &up(&fewer, &seen));
    insta::assert_snapshot!(text);
}

#[test]
fn what_up_restores() {
    let mut text = String::new();
    let spec = full();
    for damage in [
        Damage::Killed(1),
        Damage::Paused(1),
        Damage::Crashed(1),
        Damage::Restarted,
        Damage::NoBridge,
        Damage::NoFirewall,
        Damage::NoHosts,
        Damage::NoCertificates,
        Damage::NoDisk(1),
        Damage::NoNode(1),
    ] {
        let mut world = world_of(&spec);
        world.suffer(damage);
        let seen = world.look();
        show(&mut text, &format!("{damage:?}"), &seen, &up(&spec, &seen));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn what_other_commands_change() {
    let mut text = String::new();
    let seen = world_of(&full()).look();
    show(
        &mut text,
        "node rm",
        &seen,
        &plan_remove_nodes(&seen, &[name(1), name(3)], false).unwrap(),
    );
    show(&mut text, "stop", &seen, &plan_stop(&seen, &[name(1)], StopMode::Graceful).unwrap());
    let label = plan_settings(&seen, &[name(2)], |node| {
        node.labels.insert("a".into(), "b".into());
    });
    show(&mut text, "node label", &seen, &label.unwrap());
    show(&mut text, "certs renew", &seen, &plan_renew(&seen).unwrap());
    show(&mut text, "down", &seen, &plan_down(&seen));
    let mut world = world_of(&full());
    world.cluster = None;
    let seen = world.look();
    show(&mut text, "down without a record", &seen, &plan_down(&seen));
    show(&mut text, "down of nothing", &Observed::default(), &plan_down(&Observed::default()));
    insta::assert_snapshot!(text);
}

/// Tells whether a step only prepares, waits, verifies or writes down what other steps do.
fn is_silent(action: &Action) -> bool {
    matches!(
        action,
        Action::Cluster(ClusterAction::RecordCluster(_))
            | Action::Node(_, NodeAction::RecordNode(_))
            | Action::Cluster(ClusterAction::EnsureImage(_))
            | Action::Cluster(ClusterAction::EnsureTemplate { .. })
            | Action::Node(_, NodeAction::AwaitGuest)
            | Action::Node(_, NodeAction::AwaitEngine)
            | Action::Cluster(ClusterAction::AwaitReady { .. })
            | Action::Node(_, NodeAction::AwaitIdle { .. })
            | Action::Cluster(ClusterAction::StartProbe { .. })
            | Action::Cluster(ClusterAction::VerifyNetworks { .. })
            | Action::Cluster(ClusterAction::VerifyNodes { .. })
    )
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_plan_changes_something_or_only_waits(
        (before, after) in any_change(),
        troubles in any_trouble(),
        seed in any::<u64>(),
    ) {
        let (mut world, mut dice) = (World::default(), Dice(seed));
        suffer(&mut world, &before, &mut dice, &troubles);
        let seen = world.look();
        for plan in [up(&after, &seen), plan_down(&seen)] {
            let changes = diff(&after.name, &seen, &plan);
            let is_silent = plan.steps.iter().all(|step| is_silent(&step.action));
            prop_assert_eq!(changes.is_empty() && !is_silent, false, "{}", plan);
            prop_assert!(!plan.is_empty() || changes.is_empty());
            // Each step for a node that exists is told with that node, or only prepares.
            for step in plan.steps.iter().filter(|step| !self::is_silent(&step.action)) {
                let Some(node) = step.action.node() else { continue };
                let told = changes.iter().any(|it| {
                    it.node.as_ref() == Some(node) || it.name == node.as_str() || it.change == Mark::Remove
                });
                let registry = matches!(step.action, Action::Node(_, NodeAction::SetRegistry(_)));
                prop_assert!(told || registry, "{}: {:?}\n{}", step, changes, plan);
            }
        }
    }
}
