//! Writes down what is remembered, now and then, off the async tasks.

use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::file;
use crate::progress::file_based::FileBased;
use crate::progress::host_based::history::Memory;
use crate::progress::proc::process;
use crate::progress::tracker::lock;

/// The least time between two writings: a daemon that is killed loses no more than this.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the daemon waits for the last writing when it stops.
const LAST: Duration = Duration::from_secs(1);

/// Keeps one state file up to date.
#[derive(Debug)]
pub(in crate::progress) struct Keeper {
    path: PathBuf,
    proc: PathBuf,
    /// What was written last, so that nothing is written twice.
    written: Option<(u64, u64)>,
    begun: Option<Instant>,
    writing: Option<JoinHandle<io::Result<()>>>,
    /// The trouble last said in the log.
    trouble: Option<String>,
}

impl Keeper {
    /// For the state file at `path`, about the processes in `proc`.
    pub(in crate::progress) fn new(path: PathBuf, proc: PathBuf) -> Self {
        Self {
            path,
            proc,
            written: None,
            begun: None,
            writing: None,
            trouble: None,
        }
    }

    /// Begins to write if there is something new, the last time is long enough ago and that writing is
    /// through. Waits for nothing.
    pub(in crate::progress) async fn keep(&mut self, memory: &Mutex<Memory>, files: &FileBased) {
        if self
            .writing
            .as_ref()
            .is_some_and(|last| !last.is_finished())
        {
            return;
        }
        self.settle().await;
        if self.begun.is_none_or(|begun| begun.elapsed() >= PAUSE) {
            self.begin(memory, files);
        }
    }

    /// Writes a last time and waits for it, within a second or so.
    pub(in crate::progress) async fn finish(mut self, memory: &Mutex<Memory>, files: &FileBased) {
        let writing = async {
            self.settle().await;
            self.begin(memory, files);
            self.settle().await;
        };
        if tokio::time::timeout(LAST, writing).await.is_err() {
            tracing::warn!(path = %self.path.display(), "the last writing takes too long");
        }
    }

    fn begin(&mut self, memory: &Mutex<Memory>, files: &FileBased) {
        let memory = lock(memory);
        let files = files.copies();
        let print = (memory.fingerprint(), files.fingerprint());
        // A memory that was always empty leaves no file behind.
        let nothing_new = self.written == Some(print)
            || (self.written.is_none() && memory.is_empty() && files.is_empty());
        if nothing_new {
            return;
        }
        let mut saved = memory.saved("");
        saved.files = files.saved();
        drop((memory, files));
        let (path, proc) = (self.path.clone(), self.proc.clone());
        self.written = Some(print);
        self.begun = Some(Instant::now());
        self.writing = Some(tokio::task::spawn_blocking(move || {
            // Not before: a read under /proc may hang, too.
            saved.boot = process::boot_id(&proc);
            file::store(&path, &saved)
        }));
    }

    /// Takes in how the writing that was begun has ended.
    async fn settle(&mut self) {
        let Some(writing) = &mut self.writing else {
            return;
        };
        let trouble = match writing.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(broken) => Some(broken.to_string()),
        };
        self.writing = None;
        if trouble.is_some() {
            self.written = None;
        }
        if self.trouble != trouble {
            if let Some(cause) = &trouble {
                tracing::warn!(
                    path = %self.path.display(),
                    cause,
                    "cannot write down what is remembered; a restart will forget it"
                );
            }
            self.trouble = trouble;
        }
    }
}
