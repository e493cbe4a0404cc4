//! An engine that its supervisor starts again and again: it will never answer, and its log says why.

use std::time::Duration;

use skep_core::model::NodeName;
use skep_store::Machine;
use tokio::time::Instant;

use super::{Error, StepContext};

/// How long an engine is waited for before anybody looks, and the time between two looks.
const PAUSE: Duration = Duration::from_secs(3);

/// How often an engine has to have ended. Once or twice it may end where the host is busy, as it does not wait long
/// for containerd.
const ENDS: u32 = 3;

/// Prints the engine's process ID, or an empty line, and what the log says last of failures.
const LOOK: &str = r#"
    pid=
    read -r pid </run/service/docker/pid
    echo "$pid"
    tail -n 40 /var/log/docker/current | cut -d ' ' -f 2- |
        grep -iE 'fail|unknown|unable|cannot|invalid|level=fatal' | uniq | tail -n 2
"#;

/// What was seen of an engine that does not answer.
#[derive(Debug)]
pub(super) struct Ends {
    next: Instant,
    last: Option<u32>,
    count: u32,
}

impl Ends {
    pub(super) fn new() -> Self {
        Self { next: Instant::now() + PAUSE, last: None, count: 0 }
    }

    /// Notes the process that runs now, if one does; tells whether the engine has ended too often.
    fn saw(&mut self, pid: Option<u32>) -> bool {
        if let (Some(last), Some(now)) = (self.last, pid)
            && last != now
        {
            self.count += 1;
        }
        self.last = pid.or(self.last);
        self.count >= ENDS
    }
}

impl StepContext<'_> {
    /// Fails if the engine of a virtual machine ends as often as it is started.
    pub(super) async fn check_ends(
        &self,
        node: &NodeName,
        machine: &Machine,
        ends: &mut Ends,
    ) -> Result<(), Error> {
        if machine.record.spec.is_host() || Instant::now() < ends.next {
            return Ok(());
        }
        let limit = self.limit(Some(node), Duration::from_secs(5));
        let looked = self.driver.shell(machine).run(&["/bin/sh", "-c", LOOK], b"", limit).await;
        ends.next = Instant::now() + PAUSE;
        // A guest that says nothing is waited for as one whose engine starts.
        let Ok(output) = looked else { return Ok(()) };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (pid, said) = text.split_once('\n').unwrap_or((&text, ""));
        if !ends.saw(pid.trim().parse().ok()) {
            return Ok(());
        }
        let said = said.trim().replace('\n', "; ");
        let said = if said.is_empty() {
            "its log, /var/log/docker/current, is empty".to_owned()
        } else {
            said
        };
        Err(Error::EngineEnds { node: node.clone(), said })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_is_started_again_and_again_is_noticed() {
        let mut ends = Ends::new();
        let seen: Vec<bool> = [Some(10), None, Some(11), Some(11), Some(12), None, Some(13)]
            .map(|pid| ends.saw(pid))
            .into();
        assert_eq!(seen, [false, false, false, false, false, false, true]);
    }

    #[test]
    fn an_engine_that_takes_its_time_is_waited_for() {
        let mut ends = Ends::new();
        assert!((0..100).all(|_| !ends.saw(Some(10))));
    }
}
