//! A host whose cluster is there already.

use skep_core::model::ClusterSpec;
use skep_core::plan::{Birth, UpOptions, Verify, plan_up};
use skep_ops::converge::OnFailure;

use super::FakeHost;

const OPTIONS: UpOptions =
    UpOptions { birth: Birth::Fork { restart_engine: false }, wait: true, verify: Verify::Nothing };

impl FakeHost {
    /// Returns a host on which the cluster `demo` runs, with so many managers and workers.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    pub async fn formed(managers: usize, workers: usize) -> Self {
        let host = Self::new();
        let spec = ClusterSpec::of_machines("demo".parse().expect("a name"), managers, workers);
        let seen = host.observe("demo").await.expect("it is seen");
        let plan = plan_up(&spec, &seen, OPTIONS).expect("it has a plan");
        host.execute("demo", &plan, OnFailure::Stop, &|_| ()).await.expect("it is made");
        host
    }
}
