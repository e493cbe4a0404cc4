//! Plans that have to do with container images.

use insta::assert_snapshot;
use skep_core::model::{ClusterSpec, Role};
use skep_core::observed::Observed;
use skep_core::plan::{Action, Birth, ClusterAction, UpOptions, plan_bake, plan_down, plan_up};

use crate::carry_out::{Dice, End, execute, up};
use crate::goldens::{show, show_up, world_of};
use crate::specs::{demo, host, images, name};

/// A cluster of a manager and a worker that wants two images.
fn with_images() -> ClusterSpec {
    ClusterSpec { images: vec![images("app.tar", &[1]), images("web:1", &[2])], ..demo(1, 1) }
}

#[test]
fn up_of_a_new_cluster_with_images() {
    assert_snapshot!(show_up(&with_images(), &Observed::default()));
}

#[test]
fn up_with_a_node_that_lacks_an_image() {
    let mut world = world_of(&with_images());
    let disk = world.nodes.get_mut(&name(1)).unwrap().disk.as_mut().unwrap();
    disk.images.0.remove("sha256:2");
    assert_snapshot!(show_up(&with_images(), &world.look()));
    // An image under another name is not what was asked for.
    let disk = world.nodes.get_mut(&name(1)).unwrap().disk.as_mut().unwrap();
    disk.images.0.insert("sha256:2".into(), ["other:1".to_owned()].into());
    assert!(show_up(&with_images(), &world.look()).contains("load web:1 on node1"));
}

#[test]
fn baked_images_are_not_loaded_and_others_are() {
    let spec = with_images();
    let mut world = world_of(&spec);
    let bake = plan_bake(&world.look()).unwrap();
    assert_snapshot!("bake", show(&bake));
    assert_eq!(execute(&mut world, &bake, &mut Dice(0), &mut None), End::Done);
    assert_eq!(show(&plan_bake(&world.look()).unwrap()), "nothing to do\n");
    let down = plan_down(&world.look());
    assert_eq!(execute(&mut world, &down, &mut Dice(0), &mut None), End::Done);

    let seen = world.look();
    assert_snapshot!("up_with_baked_images", show_up(&spec, &seen));
    let loads = |spec: &ClusterSpec, options| {
        let plan = plan_up(spec, &seen, options).unwrap();
        plan.steps
            .iter()
            .filter(|it| matches!(it.action, Action::Cluster(ClusterAction::LoadImages { .. })))
            .count()
    };
    let booted = UpOptions { birth: Birth::Boot, ..UpOptions::default() };
    assert_eq!(loads(&spec, booted), 2, "what boots has none");
    let other = ClusterSpec { images: vec![images("app.tar", &[1])], ..spec.clone() };
    assert_eq!(loads(&other, UpOptions::default()), 1, "it was baked with one more");
    assert_eq!(up(&mut world, &spec, &mut Dice(0), None), Ok(End::Done));
    world.assert_meets(&spec);
}

#[test]
fn a_host_is_no_copy_of_a_baked_machine() {
    let mut spec = with_images();
    spec.nodes.push(host(2, Role::Worker));
    let plan = plan_bake(&world_of(&spec).look()).unwrap();
    let templates = plan.steps.iter().filter_map(|step| match &step.action {
        Action::Cluster(ClusterAction::EnsureTemplate { shape, .. }) => Some(*shape),
        _ => None,
    });
    assert_eq!(templates.collect::<Vec<_>>(), [spec.nodes[0].shape().unwrap()]);
}
