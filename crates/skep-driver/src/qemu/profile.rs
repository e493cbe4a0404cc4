//! How skep treats guests, by what executes them.
//!
//! Whatever differs between KVM and software emulation beside QEMU's own arguments is asked of a
//! [`Profile`], so that there is one place that decides it. A profile usually follows from the
//! accelerator. A test may ask for KVM's profile while QEMU emulates (`SKEP_TEST_KVM_PATH`, see
//! docs/design/kvm-and-emulation.md), as it is the path that most users take and not every host has KVM.

use serde::{Deserialize, Serialize};

use super::Accelerator;

/// The factor for time limits under software emulation: it was measured at 5 to 20 times the time
/// of KVM, and machines share the processors.
const EMULATION: u32 = 12;

/// How skep treats guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    path: CodePath,
    slowness: u32,
}

/// For what kind of machine skep's code runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CodePath {
    Kvm,
    Emulation,
}

impl Profile {
    /// Returns the profile of an accelerator's guests.
    #[must_use]
    pub const fn of(accelerator: Accelerator) -> Self {
        match accelerator {
            Accelerator::Kvm => Self { path: CodePath::Kvm, slowness: 1 },
            Accelerator::Tcg => Self { path: CodePath::Emulation, slowness: EMULATION },
        }
    }

    /// Returns the same with limits that stretch at least by a factor.
    #[must_use]
    pub const fn slowed(self, factor: u32) -> Self {
        let slowness = if factor > self.slowness { factor } else { self.slowness };
        Self { slowness, ..self }
    }

    /// Returns KVM's profile for guests that QEMU emulates, with KVM's time limits times `slowness`;
    /// only for tests. None if the factor is not between 1 and emulation's own, 12.
    #[must_use]
    pub fn kvm_under_emulation(slowness: u32) -> Option<Self> {
        let path = CodePath::Kvm;
        (1..=EMULATION).contains(&slowness).then_some(Self { path, slowness })
    }

    /// Returns the factor for time limits.
    #[must_use]
    pub const fn slowness(self) -> u32 {
        self.slowness
    }

    /// Tells whether guests get what only saves an emulator work: words for their kernel, a runtime
    /// in front of runc, and a copy of runc in memory. Under KVM a guest is stock Debian.
    #[must_use]
    pub const fn tunes_guests(self) -> bool {
        matches!(self.path, CodePath::Emulation)
    }

    /// Tells whether copies can go on from a checkpoint of the emulator's process.
    #[must_use]
    pub const fn checkpoints_emulator(self) -> bool {
        matches!(self.path, CodePath::Emulation)
    }

    /// Returns by how much workers give way to managers on a busy host, as a nice value. Emulated guests can keep all
    /// processors busy with their swarm's gossip alone; a manager with no more than its equal share of them then serves
    /// joins ten times slower than workers can ask for it (docs/measured.md).
    #[must_use]
    pub const fn worker_niceness(self) -> Option<u8> {
        match self.path {
            CodePath::Kvm => None,
            CodePath::Emulation => Some(5),
        }
    }

    /// Tells whether `up` verifies an overlay network by default; emulated, it takes as long as all the rest.
    #[must_use]
    pub const fn verifies_overlay(self) -> bool {
        matches!(self.path, CodePath::Kvm)
    }

    /// Tells whether a saved state depends on the host's processor, kernel and KVM.
    #[must_use]
    pub const fn state_depends_on_host(self) -> bool {
        matches!(self.path, CodePath::Kvm)
    }
}

/// What executes guests, as the user or a test chose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// KVM if a guest runs under it, else emulation.
    Tried,
    /// This one.
    Accelerator(Accelerator),
    /// Emulation, treated as if it were KVM: only for tests.
    Test(Profile),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvms_path_under_emulation_differs_from_kvm_in_its_limits_alone() {
        let kvm = Profile::of(Accelerator::Kvm);
        assert_eq!(Profile::kvm_under_emulation(1), Some(kvm));
        let slower = Profile::kvm_under_emulation(3).unwrap();
        assert_eq!(Profile { slowness: 1, ..slower }, kvm);
        let of = |it: Profile| {
            (
                it.tunes_guests(),
                it.checkpoints_emulator(),
                it.verifies_overlay(),
                it.state_depends_on_host(),
            )
        };
        assert_eq!(of(slower), (false, false, true, true));
        assert_eq!(of(Profile::of(Accelerator::Tcg)), (true, true, false, false));
        assert_eq!(Profile::kvm_under_emulation(0), None);
        assert_eq!(Profile::kvm_under_emulation(13), None);
    }
}
