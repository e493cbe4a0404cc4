//! What becomes of a file after a power cut, on a failing disk, or by a hand that is not ours.

use std::fs;
use std::path::Path;

/// A way to damage a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// It has no content.
    Empty,
    /// Its second half is missing.
    Half,
    /// Its last byte is missing.
    Short,
    /// All of it is zeros.
    Zeros,
    /// Its beginning is zeros: a sector.
    Sector,
    /// One bit in its first byte is another.
    FirstBit,
    /// One bit in its middle is another.
    MiddleBit,
    /// It is what is no text.
    Noise,
    /// It is a list within a list, and so on, without an end.
    Deep,
    /// It is a link to what never ends.
    Link,
    /// It is a pipe that nobody writes to.
    Pipe,
    /// A directory stands in its place.
    Directory,
    /// It is gone.
    Gone,
}

impl Damage {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Empty,
        Self::Half,
        Self::Short,
        Self::Zeros,
        Self::Sector,
        Self::FirstBit,
        Self::MiddleBit,
        Self::Noise,
        Self::Deep,
        Self::Link,
        Self::Pipe,
        Self::Directory,
        Self::Gone,
    ];

    /// Damages a file. Tells whether it is another one now.
    ///
    /// # Panics
    ///
    /// If it cannot be changed.
    #[must_use]
    pub fn apply(self, path: &Path) -> bool {
        let whole = fs::read(path).expect("a file");
        let mut bytes = whole.clone();
        let length = bytes.len();
        match self {
            Self::Empty => bytes.clear(),
            Self::Half => bytes.truncate(length / 2),
            Self::Short => bytes.truncate(length.saturating_sub(1)),
            Self::Zeros => bytes.fill(0),
            Self::Sector => bytes[..length.min(512)].fill(0),
            Self::FirstBit => bytes.first_mut().into_iter().for_each(|byte| *byte ^= 4),
            Self::MiddleBit => bytes.iter_mut().skip(length / 2).take(1).for_each(|it| *it ^= 1),
            Self::Noise => bytes = (0..length.max(64)).map(|at| (at * 151 + 128) as u8).collect(),
            Self::Deep => bytes = b"[".repeat(200_000),
            Self::Link | Self::Pipe | Self::Directory | Self::Gone => {
                fs::remove_file(path).expect("its directory can be written to");
                self.put_another(path);
                return true;
            }
        }
        fs::write(path, &bytes).expect("it can be written to");
        bytes != whole
    }

    /// Puts what is no plain file in a file's place.
    fn put_another(self, path: &Path) {
        match self {
            Self::Link => std::os::unix::fs::symlink("/dev/zero", path).expect("a link"),
            Self::Directory => fs::create_dir(path).expect("a directory"),
            Self::Pipe => {
                let made = std::process::Command::new("mkfifo").arg(path).status();
                assert!(made.expect("mkfifo is there").success());
            }
            _ => {}
        }
    }
}
