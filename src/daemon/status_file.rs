//! How the daemon stands with the broker, in a file beside the state file, for `status` on the same node.
//!
//! The writer holds a lock on the file. The kernel releases that lock with the process, however the process ends:
//! a file without a lock was left behind. Of two daemons with one state file the first one writes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tracing::debug;

use super::lock::try_lock;
use crate::liveness::Liveness;
use crate::text;

/// Between two tries to get the lock that another daemon holds.
const PAUSE: Duration = Duration::from_millis(500);

/// How much of the file is read: more than any line that is written.
const LONGEST: u64 = 4096;

/// Whether a daemon runs on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonState {
    /// One does, and stands so.
    Runs(String),
    /// None does.
    Missing,
}

/// The file that belongs to this state file.
#[must_use]
pub fn path_of(state_file: &Path) -> PathBuf {
    let mut path = state_file.as_os_str().to_owned();
    path.push(".status");
    path.into()
}

/// Keeps the file at `path` up to date for ever. A failed write is only logged: nothing but `status` reads the file.
pub async fn keep_written(path: PathBuf, liveness: Liveness) {
    let file = loop {
        match try_lock(path.clone()).await {
            Ok(Some(file)) => break Arc::new(file),
            Ok(None) => tokio::time::sleep(PAUSE).await,
            Err(error) => {
                debug!(path = %path.display(), %error, "cannot write for `status` how the daemon stands");
                return;
            }
        }
    };
    let mut changes = liveness.changes();
    let mut written = String::new();
    loop {
        let line = text::harmless(&liveness.summary());
        if line != written {
            let (file, line) = (Arc::clone(&file), line.clone());
            // On a thread of its own, because a file system may hang.
            let writing = tokio::task::spawn_blocking(move || write(&file, &line));
            if let Ok(Err(error)) = writing.await {
                debug!(path = %path.display(), %error, "cannot write for `status` how the daemon stands");
            }
        }
        written = line;
        changes.next().await;
    }
}

/// A reader takes only the first line, which is whole at any moment: the rest of an older, longer line may follow.
fn write(file: &File, line: &str) -> io::Result<()> {
    let line = format!("{line}\n");
    file.write_all_at(line.as_bytes(), 0)?;
    file.set_len(line.len() as u64)
}

/// What the file beside `state_file` tells.
///
/// # Errors
///
/// The system's, where the file is there and cannot be read.
pub fn read(state_file: &Path) -> io::Result<DaemonState> {
    let file = match File::open(path_of(state_file)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(DaemonState::Missing),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        // The file, and so the lock, is dropped at once: a daemon that starts at this moment tries again.
        Ok(()) => return Ok(DaemonState::Missing),
        Err(Errno::WOULDBLOCK) => {}
        Err(error) => return Err(error.into()),
    }
    let mut bytes = Vec::new();
    (&file).take(LONGEST).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().next().filter(|line| !line.is_empty());
    Ok(DaemonState::Runs(line.unwrap_or("starting").to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::liveness::{Role, TaskState};

    fn until(state: &Path, wanted: &str) {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let seen = read(state).unwrap();
            if matches!(&seen, DaemonState::Runs(line) if line.contains(wanted)) {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{seen:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn how_it_stands_can_be_read_while_it_runs_and_not_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state.json");
        assert_eq!(read(&state).unwrap(), DaemonState::Missing);
        let liveness = Liveness::new(Duration::from_secs(30));
        let task = liveness.task(Role::Intake, None);
        let writer = tokio::spawn(keep_written(path_of(&state), liveness.clone()));
        until(&state, "starting");
        let far = "a host with a name that is rather long.example:5672";
        task.does(TaskState::Connecting(far.to_owned()));
        until(&state, far);
        task.does(TaskState::Connecting("near:5672".to_owned()));
        until(&state, "connecting to near:5672");

        // A second one does not write while the first one runs.
        let other = Liveness::new(Duration::from_secs(30));
        let _other = other.task(Role::Intake, None);
        let second = tokio::spawn(keep_written(path_of(&state), other));
        until(&state, "near:5672");
        writer.abort();
        let _ = writer.await;
        until(&state, "starting");
        second.abort();
        let _ = second.await;
        assert_eq!(read(&state).unwrap(), DaemonState::Missing);
    }

    #[tokio::test]
    async fn a_folder_that_is_missing_holds_up_nobody() {
        let state = Path::new("/nowhere/state.json");
        keep_written(path_of(state), Liveness::new(PAUSE)).await;
        assert_eq!(read(state).unwrap(), DaemonState::Missing);
    }
}
