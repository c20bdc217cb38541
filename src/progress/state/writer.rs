//! Saves the state file, now and then, off the async tasks.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::file;
use super::format::Saved;
use crate::progress::file_based::history::FileCopies;
use crate::progress::host_based::history::History;
use crate::progress::proc::process;

/// The least time between two writings: a daemon that is killed loses no more than this where a few dozen
/// copies are remembered.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the daemon waits for the last writing when it stops.
const LAST: Duration = Duration::from_secs(1);

/// How many bytes a second are written on average. A file of a megabyte each second would be much for a
/// node with little to do.
const PACE: u64 = 64 * 1024;

/// The longest time between two writings, however much there is to write.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How many records are taken in one go, so that a lookup does not wait for long.
const HANDFUL: usize = 64;

/// All that there is to write down.
#[derive(Debug, Clone)]
pub(in crate::progress) struct Remembered {
    /// Copies and wipes by dd.
    pub dds: Arc<Mutex<History>>,
    /// Copies through open files.
    pub files: Arc<Mutex<FileCopies>>,
}

impl Remembered {
    /// What tells whether anything has changed; nothing where nothing is remembered.
    fn revision(&self) -> Option<(u64, u64)> {
        let (dds, files) = (self.dds.lock(), self.files.lock());
        let anything = !dds.is_empty() || !files.is_empty();
        anything.then(|| (dds.revision(), files.revision()))
    }

    /// All of it. Each copy is whole; they need not be of the same moment.
    fn saved(&self, boot: &str) -> Saved {
        let mut saved = Saved::new(boot, Vec::new());
        saved.volumes = self.dds.lock().volumes.clone();
        let dds = self.dds.lock().ids();
        for some in dds.chunks(HANDFUL) {
            saved.records.extend(self.dds.lock().saved(some));
        }
        let files = self.files.lock().numbers();
        for some in files.chunks(HANDFUL) {
            saved.files.extend(self.files.lock().saved(some));
        }
        saved
    }
}

/// How long after the beginning of a writing of so many bytes the next one may begin.
fn pause_after(bytes: u64) -> Duration {
    let due = Duration::from_secs_f64(bytes as f64 / PACE as f64);
    due.clamp(PAUSE, LONGEST_PAUSE)
}

/// Keeps one state file up to date.
#[derive(Debug)]
pub(in crate::progress) struct StateWriter {
    path: PathBuf,
    proc: PathBuf,
    remembered: Remembered,
    /// What was written last, so that nothing is written twice.
    written: Option<(u64, u64)>,
    /// When the next writing may begin.
    next: Option<Instant>,
    begun: Instant,
    writing: Option<JoinHandle<io::Result<u64>>>,
    /// The trouble last said in the log.
    trouble: Option<String>,
}

impl StateWriter {
    /// For the state file at `path`, about the processes in `proc`.
    pub(in crate::progress) fn new(path: PathBuf, proc: PathBuf, remembered: Remembered) -> Self {
        Self {
            path,
            proc,
            remembered,
            written: None,
            next: None,
            begun: Instant::now(),
            writing: None,
            trouble: None,
        }
    }

    /// Begins to write if there is something new, the last time is long enough ago and that write has
    /// ended. Waits for nothing.
    pub(in crate::progress) async fn keep(&mut self) {
        if self
            .writing
            .as_ref()
            .is_some_and(|last| !last.is_finished())
        {
            return;
        }
        self.settle().await;
        if self.next.is_none_or(|next| Instant::now() >= next) {
            self.begin();
        }
    }

    /// Writes a last time and waits for it, within a second or so.
    pub(in crate::progress) async fn finish(mut self) {
        let writing = async {
            self.settle().await;
            self.begin();
            self.settle().await;
        };
        if tokio::time::timeout(LAST, writing).await.is_err() {
            tracing::warn!(path = %self.path.display(), "writing the state file before the end takes too long");
        }
    }

    fn begin(&mut self) {
        let revision = self.remembered.revision();
        // A state that was always empty leaves no file behind.
        if revision == self.written {
            return;
        }
        let (path, proc) = (self.path.clone(), self.proc.clone());
        let remembered = self.remembered.clone();
        self.written = revision;
        self.begun = Instant::now();
        self.next = Some(self.begun + PAUSE);
        self.writing = Some(tokio::task::spawn_blocking(move || {
            // The boot's id not before: a read under /proc may hang, too.
            let saved = remembered.saved(&process::boot_id(&proc));
            file::store(&path, saved)
        }));
    }

    /// Takes in how the writing that was begun has ended.
    async fn settle(&mut self) {
        let Some(writing) = &mut self.writing else {
            return;
        };
        let trouble = match writing.await {
            Ok(Ok(bytes)) => {
                self.next = Some(self.begun + pause_after(bytes));
                None
            }
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
                    "cannot write the state file: a restart will forget the copies"
                );
            }
            self.trouble = trouble;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::progress::device::Identity;
    use crate::progress::host_based::operands::Purpose;
    use crate::progress::host_based::scan::{Begin, DdFacts, FoundDd, Scan};
    use crate::progress::proc::process::ProcessId;
    use crate::progress::tests::fake_host::Fake;

    #[test]
    fn the_more_there_is_to_write_the_less_often_it_is_written() {
        assert_eq!(pause_after(0), PAUSE);
        assert_eq!(pause_after(PACE), PAUSE);
        assert_eq!(pause_after(10 * PACE), Duration::from_secs(10));
        assert_eq!(pause_after(u64::MAX), LONGEST_PAUSE);
    }

    /// Takes in one more copy, with a long name.
    fn add(memory: &Mutex<History>, fake: &Fake, start: u64) {
        let path = format!("/{}", "x".repeat(3000));
        let dd = DdFacts {
            id: ProcessId { start, pid: 7 },
            purpose: Purpose::Copy,
            source: Identity::of(&fake.roots(), &path),
            destination: Identity::of(&fake.roots(), "/b"),
            block: 512,
            bytes: None,
            begin: Begin::default(),
        };
        let found = FoundDd {
            dd,
            written: None,
            at: Instant::now(),
        };
        let scan = Scan {
            found: vec![found],
            ..Scan::default()
        };
        memory.lock().take_in(scan, Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_memory_that_changes_all_the_time_is_not_written_all_the_time() {
        let fake = Fake::new();
        let path = fake.path("state.json");
        let remembered = Remembered {
            dds: Arc::default(),
            files: Arc::default(),
        };
        let memory = Arc::clone(&remembered.dds);
        let mut writer = StateWriter::new(path.clone(), fake.roots().proc, remembered);
        writer.keep().await;
        assert!(writer.writing.is_none(), "there is nothing to write");
        for start in 0..200 {
            add(&memory, &fake, start);
        }
        let (mut writings, mut bytes) = (0, 0);
        let seconds = 60;
        for second in 0..seconds {
            add(&memory, &fake, 1000 + second);
            writer.keep().await;
            if writer.writing.is_some() {
                writer.settle().await;
                bytes += fs::metadata(&path).unwrap().len();
                writings += 1;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(writings > 1, "{writings}");
        assert!(bytes <= 2 * PACE * seconds, "{bytes} bytes in a minute");
    }

    #[tokio::test]
    async fn a_write_that_failed_is_tried_again() {
        let fake = Fake::new();
        fake.write("folder", "a file in the place of the folder");
        let path = fake.path("folder/state.json");
        let remembered = Remembered {
            dds: Arc::default(),
            files: Arc::default(),
        };
        add(&remembered.dds, &fake, 7);
        let mut writer = StateWriter::new(path.clone(), fake.roots().proc, remembered);
        writer.keep().await;
        writer.settle().await;
        assert!(writer.trouble.is_some());
        fake.remove("folder");
        writer.begin();
        writer.settle().await;
        assert_eq!(writer.trouble, None);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn what_has_not_changed_is_not_written_again() {
        let fake = Fake::new();
        let path = fake.path("state.json");
        let remembered = Remembered {
            dds: Arc::default(),
            files: Arc::default(),
        };
        add(&remembered.dds, &fake, 7);
        let mut writer = StateWriter::new(path.clone(), fake.roots().proc, remembered);
        writer.keep().await;
        writer.settle().await;
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
        writer.finish().await;
        assert!(!path.exists());
    }
}
