//! libFuzzer's program: it looks for bytes on which one of the targets panics or does not end.
#![no_main]

mod targets;

use std::sync::OnceLock;

use targets::{TARGETS, Target};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static TARGET: OnceLock<&Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("SKEP_FUZZ").unwrap_or_default();
        TARGETS.iter().find(|target| target.name == name).expect("SKEP_FUZZ names a target")
    });
    (target.read)(bytes);
});
