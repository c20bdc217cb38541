//! One daemon at a time consumes the queues of a node and keeps its state file: a lock beside that file.
//!
//! A daemon that waits for the lock follows copies and answers on its own topic meanwhile, as one in mode direct does.
//! The kernel releases the lock with the process, however the process ends. Two daemons with different state
//! files do not meet here; they meet at the claim on the broker.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tracing::{info, warn};

use crate::liveness::{TaskHandle, TaskState};

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// Held for as long as this lives.
#[derive(Debug)]
pub struct Lock {
    _file: Option<File>,
}

/// Waits until no other daemon has the lock beside `state_file`, and shows by `task` that it waits.
///
/// A lock that cannot be tried is logged and counts as free: a second daemon is an operator's mistake, and a
/// lock that fails need not be one.
pub async fn acquire(state_file: &Path, task: &TaskHandle) -> Lock {
    let path = lock_of(state_file);
    let mut waits = false;
    loop {
        match task.beating(try_lock(path.clone())).await {
            Ok(Some(file)) => {
                if waits {
                    info!(lock = %path.display(), "the other cinder-progress has ended");
                }
                return Lock { _file: Some(file) };
            }
            Ok(None) => {}
            Err(error) => {
                warn!(lock = %path.display(), %error, "cannot lock the file: a second daemon would not be noticed");
                return Lock { _file: None };
            }
        }
        if !waits {
            waits = true;
            let by = format!(
                "another cinder-progress on this node holds {}",
                path.display()
            );
            warn!(cause = %by, "waiting");
            task.does(TaskState::Occupied(by));
        }
        task.beating(tokio::time::sleep(PAUSE)).await;
    }
}

fn lock_of(state_file: &Path) -> PathBuf {
    let mut path = state_file.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// The locked file; `None` while another process holds the lock. On a thread of its own, because a
/// file system may hang.
pub(super) async fn try_lock(path: PathBuf) -> io::Result<Option<File>> {
    let trying = tokio::task::spawn_blocking(move || {
        let opened = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = match opened {
            // A daemon that was run as another user may have left it. It is never written to.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(&path)?,
            opened => opened?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    });
    trying.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::liveness::{Liveness, Role};

    fn liveness() -> Liveness {
        Liveness::new(Duration::from_secs(30))
    }

    #[tokio::test]
    async fn the_second_waits_says_so_and_goes_on_when_the_first_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state.json");
        let liveness = liveness();
        let task = liveness.task(Role::Entry, None);
        let first = acquire(&state, &task).await;
        assert_eq!(liveness.doing(&Role::Entry), Some(TaskState::Starting));

        let mut second = std::pin::pin!(acquire(&state, &task));
        let mut changes = liveness.changes();
        tokio::select! {
            _ = &mut second => panic!("both have it"),
            () = changes.next() => {}
        }
        let summary = liveness.summary();
        assert!(
            summary.contains("another cinder-progress on this node"),
            "{summary}"
        );
        drop(first);
        assert!(second.await._file.is_some());
    }

    #[tokio::test]
    async fn a_folder_that_is_missing_keeps_nobody_away() {
        let task = liveness().task(Role::Entry, None);
        let lock = acquire(Path::new("/nowhere/state.json"), &task).await;
        assert!(lock._file.is_none());
    }
}
