//! Whatever stands in a file of the store or cache, or comes from a guest: it is read or refused, within
//! a bound, and nothing panics. `fuzz/` has libFuzzer look for more, in the same targets.

#[path = "../../../fuzz/targets.rs"]
mod targets;

use std::time::{Duration, Instant};

use targets::TARGETS;

/// How long each target is tried, and how often at most.
const LIMIT: Duration = Duration::from_secs(2);
const TRIES: usize = 4000;

#[test]
fn what_is_real_is_read_and_what_is_damaged_is_read_or_refused() {
    for target in TARGETS {
        for real in target.real {
            assert!((target.read)(real.as_bytes()), "{}: {real}", target.name);
        }
        let mut random = Random(0x5eed);
        let began = Instant::now();
        let mut tried = 0;
        // A busy host gets fewer inputs done, but never few.
        while tried <= 100 || tried < TRIES && began.elapsed() < LIMIT {
            let real = target.real[tried % target.real.len()].as_bytes();
            let (mut bytes, other) = (real.to_vec(), target.real[0].as_bytes());
            for _ in 0..=random.below(4) {
                mutate(&mut bytes, other, &mut random);
            }
            let one = Instant::now();
            (target.read)(&bytes);
            assert!(one.elapsed() < Duration::from_secs(5), "{}: {bytes:?}", target.name);
            tried += 1;
        }
        skep_testkit::home::say(&format!("{}: {tried} inputs", target.name));
    }
}

/// Changes bytes as a failing disk, a cut-off write or an attacker who knows the format does.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    const WORDS: [&[u8]; 14] = [
        b"null",
        b"-1",
        b"1e999",
        b"18446744073709551616",
        b"\"\"",
        b"{}",
        b"[]",
        b"../../x",
        b"a;b",
        b",file=/x",
        b"\\u0000",
        b"\n",
        b"\"\\ud800\"",
        b"true",
    ];
    let at = random.below(bytes.len() + 1);
    match random.below(7) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 => bytes.truncate(at),
        2 => {
            let word = WORDS[random.below(WORDS.len())];
            bytes.splice(at..at, word.iter().copied());
        }
        // A value in the place of another.
        3 => {
            let is_end = |byte: &u8| matches!(*byte, b',' | b'}' | b']');
            let rest = &bytes[at..];
            let start = at + rest.iter().position(|byte| *byte == b':').map_or(0, |it| it + 1);
            let end = start + bytes[start..].iter().position(is_end).unwrap_or(0);
            let word = WORDS[random.below(WORDS.len())];
            bytes.splice(start..end, word.iter().copied());
        }
        4 => {
            let from = random.below(other.len() + 1);
            let to = from + random.below(other.len() - from + 1);
            bytes.splice(at..at, other[from..to].iter().copied());
        }
        // A line in the place of another.
        5 => {
            let is_end = |byte: &u8| *byte == b'\n';
            let start = bytes[..at].iter().rposition(is_end).map_or(0, |it| it + 1);
            let end = at + bytes[at..].iter().position(is_end).unwrap_or(bytes.len() - at);
            let word = WORDS[random.below(WORDS.len())];
            bytes.splice(start..end, word.iter().copied());
        }
        _ => {
            let to = at + random.below(bytes.len() - at + 1);
            drop(bytes.drain(at..to));
        }
    }
}

/// The same numbers in each run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap_or_default()
    }
}
