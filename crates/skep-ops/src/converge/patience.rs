//! How long something is waited for on a host that has other work as well.
//!
//! A limit holds for a host that does nothing else. Where more processes want to run than there are processors,
//! each gets a part of one, and a second of waiting is worth that part of a second. The measure is the load
//! average of the last minute per processor: it counts what waits for a processor or a disk, the machines of
//! all clusters included, costs one read of a file, and unlike the pressure of `/proc/pressure/cpu` has no upper
//! end, so it tells twice as busy from ten times as busy.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// By how much the load stretches a limit at most: a load average also counts processes that hang on a dead disk.
const MOST: f64 = 10.0;

/// Returns how many times longer than alone a process needs on this host, by a file like `/proc/loadavg`; 1 if
/// the file cannot be read.
pub(super) fn slowdown(loadavg: &Path) -> f64 {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let text = std::fs::read_to_string(loadavg).unwrap_or_default();
    slowdown_of(&text, processors)
}

fn slowdown_of(loadavg: &str, processors: usize) -> f64 {
    let load = loadavg.split(' ').next().and_then(|load| load.parse::<f64>().ok());
    let load = load.filter(|load| load.is_finite()).unwrap_or(0.0);
    let processors = u32::try_from(processors).unwrap_or(u32::MAX);
    (load / f64::from(processors.max(1))).clamp(1.0, MOST)
}

/// A limit of time that a busy host stretches.
pub(super) struct Patience<S> {
    limit: Duration,
    slowdown: S,
    begun: Instant,
    /// What the time since something last moved was worth, in microseconds.
    used: AtomicU64,
}

impl<S: Fn() -> f64> Patience<S> {
    pub(super) fn new(limit: Duration, slowdown: S) -> Self {
        Self { limit, slowdown, begun: Instant::now(), used: AtomicU64::new(0) }
    }

    /// Waits until nothing has moved for as long as the limit allows. Time in which this process itself did not
    /// run, as while the host was suspended, counts for nothing.
    pub(super) async fn is_over(&self) {
        let tick = (self.limit / 20).clamp(Duration::from_millis(5), Duration::from_secs(1));
        loop {
            // wait: for a part of the limit, as the load may change meanwhile.
            tokio::time::sleep(tick).await;
            let worth = tick.div_f64((self.slowdown)().max(1.0)).as_micros();
            let worth = u64::try_from(worth).unwrap_or(u64::MAX);
            let before = self.used.fetch_add(worth, Ordering::Relaxed);
            if u128::from(before.saturating_add(worth)) >= self.limit.as_micros() {
                return;
            }
        }
    }

    /// Begins the limit again: what is waited for has come a step nearer.
    pub(super) fn moved(&self) {
        self.used.store(0, Ordering::Relaxed);
    }

    /// Returns how long was waited by the clock.
    pub(super) fn waited(&self) -> Duration {
        self.begun.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_per_processor_is_the_measure() {
        assert_eq!(slowdown_of("6.00 5.00 4.00 3/400 1234\n", 2), 3.0);
        assert_eq!(slowdown_of("0.20 5.00 4.00 3/400 1234\n", 2), 1.0, "never faster than alone");
        assert_eq!(slowdown_of("900.0 5.00 4.00 3/400 1234\n", 2), MOST);
        for odd in ["", "nan 1 1", "inf 1 1", "-3 1 1", "x"] {
            assert_eq!(slowdown_of(odd, 2), 1.0, "{odd}");
        }
        assert_eq!(slowdown(Path::new("/does/not/exist")), 1.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_host_stretches_a_limit_and_what_moves_begins_it_again() {
        let took = async |patience: &Patience<fn() -> f64>| {
            let begun = tokio::time::Instant::now();
            patience.is_over().await;
            begun.elapsed().as_secs_f64().round()
        };
        let limit = Duration::from_secs(60);
        assert_eq!(took(&Patience::new(limit, || 1.0)).await, 60.0);
        assert_eq!(took(&Patience::new(limit, || 4.0)).await, 240.0);
        let patience: Patience<fn() -> f64> = Patience::new(limit, || 1.0);
        let begun = tokio::time::Instant::now();
        let moving = async {
            // wait: on a clock that does not take the time, and between two ticks, whose order would be chance.
            tokio::time::sleep(Duration::from_millis(50_500)).await;
            patience.moved();
            std::future::pending::<()>().await;
        };
        tokio::select! { () = patience.is_over() => (), () = moving => () }
        assert_eq!(begun.elapsed().as_secs_f64().round(), 110.0);
    }
}
