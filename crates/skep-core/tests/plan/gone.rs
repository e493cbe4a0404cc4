//! Images whose source is not there any more.

use skep_core::plan::{Action, ClusterAction, UpOptions, plan_start, without_images};

use crate::carry_out::{Dice, End, execute, up};
use crate::specs::{demo, images};
use crate::world::World;

#[test]
fn an_image_that_is_gone_is_told_of_and_keeps_nothing_else_from_being_done() {
    let mut world = World::default();
    assert_eq!(up(&mut world, &demo(1, 1), &mut Dice(0), None), Ok(End::Done));
    let record = world.cluster.as_mut().unwrap();
    record.images =
        vec![images("one.tar", &[1]), images("two.tar", &[2]), images("three.tar", &[3])];
    let before = record.clone();
    let plan = plan_start(&world.look(), &[], UpOptions::default()).unwrap();
    let plan = without_images(plan, &["two.tar".to_owned()]);
    assert_eq!(
        plan.warnings,
        ["image two.tar is missing on node0, node1 and no longer on this host"]
    );
    let loaded: Vec<_> =
        plan.steps.iter().map(|step| (step.action.to_string(), &step.needs)).collect();
    assert_eq!(loaded.len(), 2, "{plan}");
    assert_eq!(loaded[1], ("load three.tar on node0, node1".to_owned(), &vec![0]));
    assert!(
        !plan
            .steps
            .iter()
            .any(|step| matches!(step.action, Action::Cluster(ClusterAction::RecordCluster(_))))
    );
    assert_eq!(execute(&mut world, &plan, &mut Dice(0), &mut None), End::Done);
    assert_eq!(world.cluster, Some(before), "it is still wanted");
}
