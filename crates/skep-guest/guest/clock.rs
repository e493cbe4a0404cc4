//! Keeps a guest's clock with its host's; runs in the guest, as a service.
//!
//! While a machine is paused, or its host sleeps, the guest's clock stands still and nobody tells the
//! guest. Its real-time clock is the host's and goes on. So the two are compared a few times a minute,
//! by how much each has gone on: what the real-time clock says by itself is a second off, and what
//! somebody sets the clock to on purpose is left alone.
//!
//! Under KVM the kernel can ask the host for its time, to the microsecond (`drivers/ptp/ptp_kvm_common.c`
//! of Linux). A guest's clock follows the host's oscillator there and not its NTP, and so drifts by up to
//! some seconds a day. Where that device is, the clock is slewed to the host's time, and set if it is far off.

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
const MILLISECOND: i64 = 1_000_000;
/// From which difference on a clock is set. A smaller one is slewed away, by 5 ms from look to look (adjtime(3)).
const FAR: i64 = SECOND / 2;
/// A difference that nobody notices.
const NEAR: i64 = MILLISECOND;

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
    if let Some(host) = kernel::HostClock::find() {
        return follow(&host, begun);
    }
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

/// Follows the host's clock, as long as it can be read.
fn follow(host: &kernel::HostClock, begun: Instant) -> io::Result<()> {
    let mut last = side_by_side(host, begun)?;
    let mut agreed = agreed_at_first(last.host - last.wall);
    loop {
        let now = side_by_side(host, begun)?;
        let correction = correct(&mut agreed, &last, &now);
        last = now;
        match correction {
            Correction::None => {}
            Correction::Slew(by) => kernel::slew_clock(by / 1000)?,
            Correction::Set(by) => {
                // First, so that nobody sets it a second time.
                fs::write(MENDED, fs::read("/proc/uptime")?)?;
                kernel::slew_clock(0)?;
                kernel::shift_clock(by)?;
                last.wall += by;
                println!("the clock was {} ms off the host's and was set", by / MILLISECOND);
            }
        }
        // wait: that a guest stood still, or how its clock drifts, is not announced to it.
        thread::sleep(BETWEEN);
    }
}

/// The clocks at one moment, in nanoseconds, of a guest that can ask for its host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    host: i64,
    /// What stands still with the guest.
    running: i64,
    wall: i64,
}

/// What is to be done about a clock, in nanoseconds to add.
#[derive(Debug, PartialEq, Eq)]
enum Correction {
    None,
    Slew(i64),
    Set(i64),
}

/// Returns by how much the host's clock is to be ahead of the guest's: not at all, unless somebody has set the guest's
/// clock on purpose before this began.
fn agreed_at_first(ahead: i64) -> i64 {
    if ahead.abs() < FAR { 0 } else { ahead }
}

/// Decides what is done about the guest's clock. `agreed` is by how much the host's is to be ahead: it changes when
/// somebody sets the guest's.
fn correct(agreed: &mut i64, last: &Pair, now: &Pair) -> Correction {
    let ahead = now.host - now.wall;
    let set = (now.wall - last.wall) - (now.running - last.running);
    let stood_still = (now.host - last.host) - (now.running - last.running);
    if set.abs() > FAR {
        // After a stop the host's skep sets the clock, roughly; everybody else sets it on purpose.
        let roughly = stood_still > FAR && (ahead - *agreed).abs() < SECOND;
        if !roughly {
            *agreed = agreed_at_first(ahead);
        }
    }
    match ahead - *agreed {
        by if by.abs() <= NEAR => Correction::None,
        by if by.abs() < FAR => Correction::Slew(by),
        by => Correction::Set(by),
    }
}

/// Reads the clocks as close to each other as they can be.
fn side_by_side(host: &kernel::HostClock, begun: Instant) -> io::Result<Pair> {
    let mut best: Option<(i64, Pair)> = None;
    for _ in 0..TRIES {
        let before = wall();
        let (host, running) = (host.now()?, nanoseconds(begun.elapsed()));
        let took = wall() - before;
        let pair = Pair { host, running, wall: before + took / 2 };
        // Nobody asks for a clock that is set meanwhile.
        if took >= 0 && best.is_none_or(|(least, _)| took < least) {
            best = Some((took, pair));
        }
    }
    best.map(|(_, pair)| pair).ok_or_else(|| io::Error::other("the clock goes backwards"))
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn wall() -> i64 {
    nanoseconds(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
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
    let running = nanoseconds(begun.elapsed());
    Ok(Clocks { rtc: rtc * SECOND, running, wall: wall() })
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

    /// A guest under KVM whose clock gains or loses so many nanoseconds a second against its host's, and what
    /// follows for it: by how much it is off at each look of a day.
    fn a_day(drift: i64) -> Vec<i64> {
        let between = 10;
        let mut last = Pair { host: 0, running: 0, wall: 0 };
        let (mut agreed, mut left, mut off) = (0, 0_i64, Vec::new());
        for _ in 0..86_400 / between {
            // The kernel slews by at most 500 microseconds a second, and its monotonic clock goes along (adjtime(3)).
            let slewed = left.clamp(-500_000 * between, 500_000 * between);
            let ran = between * (SECOND + drift) + slewed;
            let now = Pair {
                host: last.host + between * SECOND,
                running: last.running + ran,
                wall: last.wall + ran,
            };
            left = match correct(&mut agreed, &last, &now) {
                Correction::None => left - slewed,
                Correction::Slew(by) => by,
                Correction::Set(by) => panic!("{drift}: it is set by {by}"),
            };
            off.push(now.host - now.wall);
            last = now;
        }
        off
    }

    #[test]
    fn a_clock_that_drifts_under_kvm_stays_with_the_hosts() {
        // From 0.4 to 4 seconds a day, and ten times that.
        for drift in [4_600, -4_600, 46_000, -46_000, 460_000] {
            let most = a_day(drift).into_iter().map(i64::abs).max().unwrap();
            // One look is too late, and the dead band is left.
            assert!(most <= NEAR + drift.abs() * 10 * 2, "{drift}: {most}");
        }
        assert_eq!(a_day(0).into_iter().max(), Some(0));
    }

    #[test]
    fn under_kvm_a_stop_is_made_up_for_and_a_purpose_is_kept() {
        let last = Pair { host: 100 * SECOND, running: 7 * SECOND, wall: 100 * SECOND };
        let after = |ran: i64, host: i64, set: i64| Pair {
            host: last.host + host * SECOND,
            running: last.running + ran * SECOND,
            wall: last.wall + ran * SECOND + set,
        };
        let mut agreed = 0;
        let mut see = |now: &Pair| correct(&mut agreed, &last, now);
        // It stood still, or the host's clock was set.
        assert_eq!(see(&after(10, 30, 0)), Correction::Set(20 * SECOND));
        assert_eq!(see(&after(10, 2, 0)), Correction::Set(-8 * SECOND));
        // It stood still, and the host's skep was there first.
        assert_eq!(see(&after(10, 30, 20 * SECOND - 80_000_000)), Correction::Slew(80_000_000));
        // Somebody wants another time, and it goes on from there with the host's.
        let mut now = after(10, 10, 3600 * SECOND);
        assert_eq!(see(&now), Correction::None);
        assert_eq!(agreed, -3600 * SECOND);
        let last = now;
        now = Pair { host: last.host + 10 * SECOND, running: last.running + 10 * SECOND, ..last };
        now.wall += 10 * SECOND + 3_000_000;
        assert_eq!(correct(&mut agreed, &last, &now), Correction::Slew(-3_000_000));
        // And back.
        let last = now;
        now.wall -= 3600 * SECOND;
        assert_eq!(correct(&mut agreed, &last, &now), Correction::Slew(-3_000_000));
        assert_eq!(agreed, 0);
        // A service that starts anew takes a clock that is far off for one that was set on purpose.
        assert_eq!((agreed_at_first(-3600 * SECOND), agreed_at_first(40)), (-3600 * SECOND, 0));
    }
}
