//! Whose request is next.
//!
//! ```text
//! /var/lib/skep-net/queue/UID.N     held by a request of that user; there are so many N
//! /var/lib/skep-net/queue/UID       held by the one of them that waits for the lock of all, or has it
//! ```
//!
//! The kernel gives a lock to processes in the order in which they came. As only one request of each user waits for
//! the lock of all, a user waits for one request of each other user at most, however many those send.

use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_sys::{Lock, LockError, make_private_dir};

use crate::network::claims;

/// How many requests of one user there may be at once. Each is a process of root.
const AT_ONCE: u32 = 16;

/// How long a user's other requests may take, and then those of other users. Each ends by its own limits.
const TURN: Duration = Duration::from_secs(30);

/// A place among a user's requests.
#[derive(Debug)]
pub(super) struct Queue<'a> {
    state: &'a Path,
    user: u32,
    place: Lock,
}

impl<'a> Queue<'a> {
    /// Takes a place; none if this user has too many requests.
    pub fn enter(state: &'a Path, user: u32) -> Result<Option<Self>, LockError> {
        let dir = dir(state);
        make_private_dir(&dir)
            .map_err(|error| LockError::Io { path: dir.clone(), source: error.source })?;
        for number in 0..AT_ONCE {
            match Lock::try_take(&dir.join(format!("{user}.{number}"))) {
                Ok(place) => return Ok(Some(Self { state, user, place })),
                Err(LockError::Held { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Returns whose it is.
    pub fn user(&self) -> u32 {
        self.user
    }

    /// Waits until no other request of this user is at it.
    pub async fn own_turn(&self) -> Result<Lock, LockError> {
        Lock::take_within(&dir(self.state).join(self.user.to_string()), TURN).await
    }

    /// Waits until no request of anybody is at it.
    pub async fn turn(&self) -> Result<(Lock, Lock), LockError> {
        let own = self.own_turn().await?;
        let all = Lock::take_within(&claims::lock_file(self.state), TURN).await?;
        // The one of all is released first.
        Ok((all, own))
    }

    /// Gives the place back.
    pub fn leave(self) {
        self.place.remove();
    }
}

fn dir(state: &Path) -> PathBuf {
    state.join("queue")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_user_has_so_many_requests_at_once_and_another_is_not_kept_out() {
        let dir = tempfile::tempdir().unwrap();
        let enter = |user| Queue::enter(dir.path(), user).unwrap();
        let mut places: Vec<_> = (0..AT_ONCE).map(|_| enter(1000).expect("a place")).collect();
        assert!(enter(1000).is_none());
        enter(1001).expect("another user's place").leave();
        places.pop().unwrap().leave();
        places.push(enter(1000).expect("the one that was given back"));
        places.into_iter().for_each(Queue::leave);
        assert_eq!(std::fs::read_dir(super::dir(dir.path())).unwrap().count(), 0);
    }

    /// Waits until so many wait for a lock, as the kernel lists them (proc_locks(5)).
    async fn until_waiting(lock: &Path, count: usize) {
        let inode = || std::fs::metadata(lock).map(|it| format!(":{} ", it.ino()));
        let waiting = || {
            let Ok(inode) = inode() else { return 0 };
            let locks = std::fs::read_to_string("/proc/locks").unwrap();
            locks.lines().filter(|line| line.contains("-> ") && line.contains(&inode)).count()
        };
        while waiting() != count {
            // wait: the kernel lists who waits, and announces nobody.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn of_one_users_requests_one_waits_for_the_lock_of_all() {
        let temporary = tempfile::tempdir().unwrap();
        let state = temporary.path();
        let enter = |user| Queue::enter(state, user).unwrap().unwrap();
        let all = Lock::try_take(&claims::lock_file(state)).unwrap();
        let many: Vec<_> = (0..8).map(|_| enter(1000)).collect();
        let one = enter(1001);
        let serve = async |queue: &Queue<'_>| drop(queue.turn().await.unwrap());
        let flood = futures_util::future::join_all(many.iter().map(&serve));
        let release = async {
            // Seven of the eight wait for each other; in what order the kernel serves the rest is its own matter.
            until_waiting(&dir(state).join("1000"), 7).await;
            until_waiting(&claims::lock_file(state), 2).await;
            drop(all);
        };
        tokio::join!(flood, serve(&one), release);
    }
}
