//! Sets a guest's clock right after its processor has stood still; runs in the guest, as a service.
//!
//! While a machine is paused, or its host sleeps, the guest's clock stands still and nobody tells the
//! guest. Its real-time clock is the host's and goes on. So the two are compared a few times a minute,
//! by how much each has gone on: what the real-time clock says by itself is a second off, and what
//! somebody sets the clock to on purpose is left alone.

mod kernel;

use std::fs;
use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// The real-time clock, in whole seconds (Linux Documentation/ABI/testing/sysfs-class-rtc).
const RTC: &str = "/sys/class/rtc/rtc0/since_epoch";
/// When the clock was last set here, in seconds of uptime: `identity` then leaves it alone.
const MENDED: &str = "/run/skep/clock-mended";
/// The first look is not while the node starts.
const FIRST: Duration = Duration::from_secs(5);
const BETWEEN: Duration = Duration::from_secs(10);
/// How often the real-time clock is read while its next second is waited for, and how late that may be
/// noticed.
const STEP: Duration = Duration::from_millis(10);
const LATE: Duration = Duration::from_millis(30);
const TRIES: usize = 10;
const SECOND: i64 = 1_000_000_000;

/// The clocks at one moment, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Clocks {
    /// The host's: in whole seconds, rounded down.
    rtc: i64,
    /// What stands still with the guest.
    running: i64,
    /// What the guest has for the time of day.
    wall: i64,
}

/// What is found when clocks are compared with what they were.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// The guest has run all the time.
    Right,
    /// It stood still, or the host's clock was set.
    Behind,
    /// Somebody has set the guest's clock.
    Set,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("clock: {error}");
            // A guest without a real-time clock has nothing to compare with, now or later.
            // wait: a service that ends is started again.
            thread::sleep(Duration::from_secs(3600));
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let begun = Instant::now();
    // wait: the node starts; nothing tells when it is at rest.
    thread::sleep(FIRST);
    let mut last = at_a_second(begun)?;
    loop {
        // wait: that a guest stood still is not announced to it.
        thread::sleep(BETWEEN);
        match compare(&last, &now(begun)?) {
            Found::Right => {}
            Found::Set => {
                let mut found = at_a_second(begun)?;
                if let Some(by) = roughly_set(&last, &found) {
                    mend(&mut found, by)?;
                    println!("the clock had stood still, was set, and then by {by} ns again");
                }
                last = found;
            }
            Found::Behind => {
                let mut found = at_a_second(begun)?;
                if compare(&last, &found) == Found::Behind {
                    let by = stood_still(&last, &found);
                    mend(&mut found, by)?;
                    println!("the clock stood still for {} ms and was set", by / 1_000_000);
                }
                last = found;
            }
        }
    }
}

fn mend(found: &mut Clocks, by: i64) -> io::Result<()> {
    // First, so that nobody sets it a second time.
    fs::write(MENDED, fs::read("/proc/uptime")?)?;
    kernel::shift_clock(by)?;
    found.wall += by;
    Ok(())
}

/// Compares clocks with what they were at the beginning of a second of the real-time clock.
fn compare(last: &Clocks, now: &Clocks) -> Found {
    let set = (now.wall - last.wall) - (now.running - last.running);
    if set.abs() > SECOND / 2 {
        return Found::Set;
    }
    // The real-time clock may be up to a second further than it says.
    match stood_still(last, now) {
        by if (-2 * SECOND..SECOND).contains(&by) => Found::Right,
        _ => Found::Behind,
    }
}

/// Returns what is missing of the right time in a guest that stood still and whose host has set its clock
/// since: the host asks for the time while the guest has much to catch up with, and answers late.
fn roughly_set(last: &Clocks, now: &Clocks) -> Option<i64> {
    let missing = (now.rtc - last.rtc) - (now.wall - last.wall);
    (stood_still(last, now) > SECOND / 2 && missing.abs() < SECOND).then_some(missing)
}

fn stood_still(last: &Clocks, now: &Clocks) -> i64 {
    (now.rtc - last.rtc) - (now.running - last.running)
}

fn now(begun: Instant) -> io::Result<Clocks> {
    let text = fs::read_to_string(RTC)?;
    let rtc: i64 = text.trim().parse().map_err(io::Error::other)?;
    let nanoseconds = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let running = nanoseconds(begun.elapsed());
    Ok(Clocks { rtc: rtc * SECOND, running, wall: nanoseconds(wall) })
}

/// Returns the clocks at the moment when the real-time clock's next second began.
fn at_a_second(begun: Instant) -> io::Result<Clocks> {
    let mut before = now(begun)?;
    let mut tries = 0;
    loop {
        // wait: the clock can be read, and says nothing by itself.
        thread::sleep(STEP);
        let mut after = now(begun)?;
        let between = after.running - before.running;
        if after.rtc != before.rtc {
            tries += 1;
            if between < i64::try_from(LATE.as_nanos()).unwrap_or(0) || tries == TRIES {
                after.running -= between / 2;
                after.wall -= between / 2;
                return Ok(after);
            }
        }
        before = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: Clocks = Clocks { rtc: 100 * SECOND, running: 7 * SECOND, wall: 50 * SECOND };

    /// The clocks after the guest has run for so many milliseconds, as the host's went on by others.
    fn after(ran: i64, host: i64) -> Clocks {
        let (ran, host) = (ran * 1_000_000, host * 1_000_000);
        Clocks {
            rtc: (LAST.rtc + host) / SECOND * SECOND,
            running: LAST.running + ran,
            wall: LAST.wall + ran,
        }
    }

    #[test]
    fn a_clock_that_goes_on_with_the_hosts_is_left_alone() {
        for (ran, host) in [(10_000, 10_000), (10_900, 10_950), (10_100, 10_900), (10_900, 10_001)]
        {
            assert_eq!(compare(&LAST, &after(ran, host)), Found::Right, "{ran} {host}");
        }
    }

    #[test]
    fn a_guest_that_stood_still_is_behind_by_that() {
        let now = after(10_000, 30_000);
        assert_eq!(compare(&LAST, &now), Found::Behind);
        assert_eq!(stood_still(&LAST, &now), 20 * SECOND);
        // The host's clock was set back, and its guests follow.
        assert_eq!(compare(&LAST, &after(10_000, 2_000)), Found::Behind);
    }

    #[test]
    fn what_the_host_sets_roughly_is_set_exactly() {
        let mut now = after(10_000, 14_000);
        now.wall += 4 * SECOND - 80_000_000;
        assert_eq!(compare(&LAST, &now), Found::Set);
        assert_eq!(roughly_set(&LAST, &now), Some(80_000_000));
        // Somebody who meant another time, and somebody whose guest had not stood still.
        now.wall += 60 * SECOND;
        assert_eq!(roughly_set(&LAST, &now), None);
        let mut now = after(10_000, 10_000);
        now.wall += 700_000_000;
        assert_eq!(roughly_set(&LAST, &now), None);
    }

    #[test]
    fn a_clock_that_was_set_on_purpose_stays_so() {
        for by in [-86_400, -1, 1, 86_400] {
            let mut now = after(10_000, 30_000);
            now.wall += by * SECOND;
            assert_eq!(compare(&LAST, &now), Found::Set, "{by}");
        }
    }
}
