//! What is reported while a plan is carried out.

use std::time::Duration;

use crate::model::NodeName;
use crate::plan::Phase;

/// What is known of a step before it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepOutline {
    /// The phase that it belongs to.
    pub phase: Phase,
    /// The node, or none if it concerns the whole cluster.
    pub node: Option<NodeName>,
}

/// One thing that happened. Renderers turn events into lines; nothing else speaks to the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A round of steps begins.
    PlanStarted {
        /// The steps, in the order of the plan.
        steps: Vec<StepOutline>,
    },
    /// A step begins.
    StepStarted {
        /// Its place in the plan.
        step: usize,
        /// The node, or none if it concerns the whole cluster.
        node: Option<NodeName>,
        /// What is done, such as `create disk`.
        title: String,
    },
    /// A step got further.
    StepProgress {
        /// Its place in the plan.
        step: usize,
        /// How far, in a few words.
        text: String,
    },
    /// A step sent something.
    StepBytes {
        /// Its place in the plan.
        step: usize,
        /// How much is done, in bytes.
        done: u64,
        /// How much there is to do, in bytes, if that is known.
        total: Option<u64>,
    },
    /// A step is done.
    StepFinished {
        /// Its place in the plan.
        step: usize,
        /// How long it took.
        took: Duration,
    },
    /// A step failed.
    StepFailed {
        /// Its place in the plan.
        step: usize,
        /// How long it took.
        took: Duration,
        /// Why.
        error: String,
    },
    /// A round of steps is over, whatever came of them.
    PlanFinished,
    /// A service that is watched changed.
    Service {
        /// Its name.
        name: String,
        /// What is there of it, in a few words.
        text: String,
        /// Whether it is what was asked for.
        done: bool,
    },
    /// Something that only a user who asks for every step wants to know.
    Detail(String),
    /// Something that the user should know and that stops nothing.
    Warning(String),
    /// The same, said by a step.
    StepWarning {
        /// What it is about: a node, or the template.
        of: String,
        /// What has to be known.
        text: String,
    },
    /// Something that the user may want to know.
    Note(String),
    /// Something that the user has to know even if asked for nothing but results, such as why nothing happens.
    Notice(String),
}
