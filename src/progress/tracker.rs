//! Entry point: questions in, answers out, upkeep in the background.
//!
//! A question about a copy that is known costs one look at that process. Any other costs a scan, which
//! all who ask at the same time share; scans rest nine times as long as they take, so a flood of questions about
//! unknown volumes is answered in batches. Both are bounded in time, and a process that hangs holds up
//! only those who ask about it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use parking_lot::{Mutex, MutexGuard};
use prometheus::Histogram;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::assign;
use super::driver_based::Drivers;
use super::file_based::FileBased;
use super::file_based::history::FileCopies;
use super::host_based;
use super::host_based::history::History;
use super::host_based::operands::Purpose;
use super::host_based::position::PositionProbe;
use super::host_based::record::Record;
use super::journal::CopyEnd;
use super::memory::copy_store::CopyRecord;
use super::memory::volumes::MigrationRequest;
use super::proc::bounded::BoundedReads;
use super::proc::error::ProgressError;
use super::proc::process::{self, ProcessId};
use super::report::{Copies, LastSeen, RunningCopy};
use super::state;
use super::verdict::CopyVerdict;
use super::{Answer, CopyMode, Question, Roots};
use crate::counters::histogram;

/// Listening for the ends of processes.
mod hearing;
/// How long scans rest.
mod scan_gap;
/// Scans: one at a time, shared by all who ask.
mod scans;
/// The upkeep in the background.
mod watch;

use hearing::Hearing;
use scans::{Outcome, ScanState};

/// How long a caller waits at most: longer than one look that hangs, shorter than a caller's patience.
pub(super) const CALL_LIMIT: Duration = Duration::from_millis(2_800);

/// Running copies that are shown in one log line.
const SHOWN: usize = 16;

/// Tells how far copies are, and remembers those it saw. Cheap to clone; all clones are one.
///
/// It works without [`Tracker::watch`], but then it sees a copy only when asked, and the last position it
/// knows of one that has ended may be old.
#[derive(Debug, Clone)]
pub struct Tracker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    roots: Roots,
    scan_interval: Duration,
    reads: BoundedReads,
    files: FileBased,
    drivers: Drivers,
    history: Arc<Mutex<History>>,
    /// Where the history is kept over a restart.
    state_file: Option<PathBuf>,
    /// Another daemon keeps that file.
    leaves_state_file: AtomicBool,
    /// Wakes the upkeep when a scan has found a dd: it may be one that needs closer watching.
    found: Notify,
    /// Tells how processes end, while a copy runs.
    ends: Mutex<Hearing>,
    /// How long scans took.
    scans: Histogram,
    /// What the last scan could not see, or why it failed.
    outcome: Mutex<Outcome>,
    /// Held for the length of a scan, so that there is one at a time.
    scan_state: Arc<tokio::sync::Mutex<ScanState>>,
}

impl Tracker {
    /// A tracker that has seen nothing yet. `scan_interval` is how often [`Tracker::watch`] looks around.
    pub fn new(roots: Roots, scan_interval: Duration) -> Self {
        Self::begin(
            roots,
            scan_interval,
            None,
            History::default(),
            FileCopies::default(),
        )
    }

    /// A tracker that knows what an earlier one, of the same boot, has left in `state_file`, and whose
    /// [`Tracker::watch`] keeps that file up to date: where something has changed, after 1 to 30 s, by the size of the
    /// file, and when it stops.
    ///
    /// A file that cannot be read is the same as none, but for a line in the log.
    pub async fn remembering(roots: Roots, scan_interval: Duration, state_file: PathBuf) -> Self {
        let mut saved = state::load(&state_file, &roots.proc).await;
        let copies = saved.records.len() + saved.files.len();
        if copies > 0 {
            tracing::info!(path = %state_file.display(), copies, "earlier copies read from the state file");
        }
        let files = FileCopies::restored(std::mem::take(&mut saved.files));
        let history = History::restored(saved.records, saved.volumes.bounded());
        Self::begin(roots, scan_interval, Some(state_file), history, files)
    }

    /// Whether [`Tracker::watch`] keeps the state file up to date, as it does at first, or leaves that to another
    /// daemon.
    pub fn keep_state_file(&self, keeps: bool) {
        self.inner
            .leaves_state_file
            .store(!keeps, Ordering::Relaxed);
    }

    fn begin(
        roots: Roots,
        scan_interval: Duration,
        state_file: Option<PathBuf>,
        history: History,
        files: FileCopies,
    ) -> Self {
        let reads = BoundedReads::new(&roots.proc);
        Self {
            inner: Arc::new(Inner {
                drivers: Drivers::default(),
                files: FileBased::new(roots.clone(), reads.clone(), files),
                reads,
                roots,
                scan_interval,
                history: Arc::new(Mutex::new(history)),
                state_file,
                leaves_state_file: AtomicBool::new(false),
                found: Notify::new(),
                scan_state: Arc::default(),
                ends: Mutex::default(),
                scans: histogram(
                    "cinder_progress_scan_duration_seconds",
                    "How long looks at the process table took.",
                ),
                outcome: Mutex::new(Ok(None)),
            }),
        }
    }

    /// Answers one question, within three seconds and what the driver's command is given besides.
    ///
    /// Cancel-safe: a look or scan already begun goes on and serves the next caller; a driver's command
    /// is ended. Must be called
    /// within a tokio runtime with time enabled.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to tell, when a look hangs, and when no copy was found but not every
    /// process could be looked at. What was remembered is kept for the next question.
    pub async fn answer(&self, question: Question) -> Result<Answer, ProgressError> {
        let asked = Instant::now();
        {
            let mut history = self.history();
            history.volumes.hear(&question, process::now());
            let mut files = self.inner.files.copies();
            assign::by_record(&mut history, &mut files, &question);
            assign::by_request(&mut history, &mut files);
        }
        let looking = async {
            match question.mode {
                CopyMode::HostBased => {
                    let verdict = self.host_based(&question, asked).await?;
                    Ok(Looked::Something(verdict.into()))
                }
                CopyMode::FileBased => {
                    let verdict = self.file_based(&question, asked).await?;
                    Ok(Looked::Something(verdict.into()))
                }
                CopyMode::Auto => self.auto(&question, asked).await,
                CopyMode::DriverBased => Ok(Looked::Nothing(Answer::Unknown)),
                CopyMode::Other => Ok(Looked::Something(Answer::Unknown)),
            }
        };
        let looked = tokio::time::timeout(CALL_LIMIT, looking)
            .await
            .unwrap_or_else(|_| {
                Err(ProgressError::TimedOut {
                    path: self.inner.roots.proc.clone(),
                    limit: CALL_LIMIT,
                })
            })?;
        match (looked, &question.driver) {
            (Looked::Nothing(otherwise), Some(call)) => {
                let told = self.inner.drivers.ask(&question.volume_id, call).await;
                Ok(told.unwrap_or(otherwise))
            }
            (Looked::Nothing(answer) | Looked::Something(answer), _) => Ok(answer),
        }
    }

    /// The first that applies:
    ///
    /// 1. A dd of the volume was seen: its answer, or the error of looking at it.
    /// 2. Open files show a copy: their answer; if that is unknown, the driver's.
    /// 3. There is a driver: its answer, or unknown where some process or open file could not be looked at.
    /// 4. Not every process could be looked at, so one may be a dd of the volume: that error.
    /// 5. Open files cannot be seen: unknown. Their error is for a question about open files alone.
    /// 6. Nothing was seen: the verdict on that.
    async fn auto(&self, question: &Question, asked: Instant) -> Result<Looked, ProgressError> {
        let by_dd = self.host_based(question, asked).await;
        match by_dd {
            Ok(verdict @ CopyVerdict::Seen(_)) => return Ok(Looked::Something(verdict.into())),
            Err(error) if !host_based::running(&self.history(), question).is_empty() => {
                return Err(error);
            }
            _ => {}
        }
        match self.file_based(question, asked).await {
            Ok(CopyVerdict::Seen(Answer::Unknown)) => Ok(Looked::Nothing(Answer::Unknown)),
            Ok(CopyVerdict::Seen(answer)) => Ok(Looked::Something(answer)),
            Ok(CopyVerdict::Unseen(answer)) => match by_dd {
                Err(_) if question.driver.is_some() => Ok(Looked::Nothing(Answer::Unknown)),
                Err(error) => Err(error),
                Ok(_) if answer == Answer::Unknown => Ok(Looked::Nothing(answer)),
                Ok(verdict) => Ok(Looked::Nothing(verdict.into())),
            },
            // No dd, and open files cannot be seen: that is not to know that nothing is copied.
            Err(_) => match by_dd {
                Err(error) if question.driver.is_none() => Err(error),
                _ => Ok(Looked::Nothing(Answer::Unknown)),
            },
        }
    }

    async fn file_based(
        &self,
        question: &Question,
        asked: Instant,
    ) -> Result<CopyVerdict, ProgressError> {
        let requested = self.history().volumes.requested(&question.volume_id);
        if let Some(verdict) = self.inner.files.known(question, requested).await? {
            return Ok(verdict);
        }
        self.scan_since(asked).await?;
        let copiers = self.inner.scan_state.lock().await.copiers.clone();
        self.inner.files.find(question, requested, copiers).await
    }

    /// Takes in a request for a migration that passed so long ago.
    pub fn requested(&self, request: MigrationRequest, ago: Duration) {
        let ago = ago.as_secs() * process::ticks_per_second();
        let mut history = self.history();
        history
            .volumes
            .request(request, process::now().saturating_sub(ago));
        assign::by_request(&mut history, &mut self.inner.files.copies());
        // Files open now do not belong to the requested migration; a sweep records them.
        self.inner.files.sweep_soon();
        self.inner.found.notify_one();
    }

    /// All copies that run now: those by dd, the oldest first, then those through open files.
    ///
    /// Cancel-safe, and within a runtime, as [`Tracker::answer`].
    ///
    /// # Errors
    ///
    /// When the processes could not be listed at all.
    pub async fn running(&self) -> Result<Copies, ProgressError> {
        let now = Instant::now();
        let unseen = self.scan_since(now).await?;
        let ids: Vec<ProcessId> = self
            .history()
            .records()
            .filter(|record| record.dd.purpose == Purpose::Copy && record.runs())
            .map(|record| record.dd.id)
            .collect();
        let by_dd = join_all(ids.iter().map(|&id| self.refresh(id, now)));
        let through_files = async {
            let unseen = self.inner.files.sweep().await;
            (unseen, self.inner.files.running().await)
        };
        let (_, (unseen_files, files)) = futures_util::join!(by_dd, through_files);
        let booted = process::boot_time(&self.inner.roots.proc);
        let mut running: Vec<RunningCopy> = self
            .history()
            .records()
            .filter(|record| ids.contains(&record.dd.id) && record.runs())
            .map(|record| RunningCopy::new(record, booted))
            .collect();
        running.sort_by_key(|copy| (copy.started, copy.pid));
        let files = files.into_iter();
        running
            .extend(files.filter_map(|(copy, trouble)| RunningCopy::through_files(&copy, trouble)));
        Ok(Copies {
            running,
            unseen,
            unseen_files,
        })
    }

    /// What was last seen: no look is begun, nothing is waited for.
    #[must_use]
    pub fn seen(&self) -> LastSeen {
        self.seen_since(None)
    }

    /// The same, and when each copy by dd began.
    #[must_use]
    pub fn seen_with_ages(&self) -> LastSeen {
        self.seen_since(process::boot_time(&self.inner.roots.proc))
    }

    fn seen_since(&self, booted: Option<SystemTime>) -> LastSeen {
        let mut running: Vec<(ProcessId, RunningCopy)> = self
            .history()
            .records()
            .filter(|record| record.dd.purpose == Purpose::Copy && record.runs())
            .map(|record| (record.dd.id, RunningCopy::new(record, booted)))
            .collect();
        running.sort_by_key(|&(id, _)| id);
        let files = self.inner.files.copies().running();
        let files = files
            .iter()
            .filter_map(|copy| RunningCopy::through_files(copy, None));
        LastSeen {
            running: running
                .into_iter()
                .map(|(_, copy)| copy)
                .chain(files)
                .collect(),
            unseen: match &*self.inner.outcome.lock() {
                Ok(missed) => missed.clone(),
                Err(failed) => Some(failed.clone()),
            },
            ended: self.history().ended.and(self.inner.files.copies().ended),
        }
    }

    /// How the copy by this process has ended, if that is known.
    #[must_use]
    pub fn end_of(&self, pid: i32, started: Option<SystemTime>) -> Option<CopyEnd> {
        let booted = process::boot_time(&self.inner.roots.proc);
        let history = self.history();
        let mut records = history.records().filter(|record| record.dd.id.pid == pid);
        let record = records.find(|&record| RunningCopy::new(record, booted).started == started)?;
        (!record.runs()).then(|| CopyEnd::of(record))
    }

    async fn host_based(
        &self,
        question: &Question,
        asked: Instant,
    ) -> Result<CopyVerdict, ProgressError> {
        if let Some(id) = self.choose(question) {
            self.scan_if_older_than(self.inner.scan_interval);
            self.refresh(id, asked).await?;
            if self.choose(question) == Some(id) {
                return Ok(self.verdict(question));
            }
        }
        let missed = self.scan_since(asked).await?;
        if let Some(id) = self.choose(question) {
            self.refresh(id, asked).await?;
        }
        match (self.verdict(question), missed) {
            (CopyVerdict::Unseen(_), Some(missed)) => Err(missed),
            (verdict, _) => Ok(verdict),
        }
    }

    /// The running copy to ask about; says in the log if it had to be chosen.
    fn choose(&self, question: &Question) -> Option<ProcessId> {
        let mut history = self.history();
        let copies = host_based::running(&history, question);
        let (&id, others) = copies.split_first()?;
        history.update(id, |record| {
            record.size = Some(question.size);
            if record.said.other_copies != others {
                record.said.other_copies = others.to_vec();
                if !others.is_empty() {
                    tracing::warn!(
                        volume_id = question.volume_id,
                        pid = id.pid,
                        destination = record.dd.destination.path(),
                        others = ?others.iter().map(|other| other.pid).collect::<Vec<_>>(),
                        "several dd read this volume"
                    );
                }
            }
            id
        })
    }

    fn verdict(&self, question: &Question) -> CopyVerdict {
        let mut history = self.history();
        let verdict = host_based::decide(&history, question);
        tracing::debug!(
            volume_id = question.volume_id,
            names = ?question.names,
            ?verdict,
            running = ?history
                .records()
                .filter(|record| record.runs())
                .map(|record| (record.dd.id.pid, record.dd.source.path()))
                .take(SHOWN)
                .collect::<Vec<_>>(),
            "looked for a dd of this volume"
        );
        host_based::note(&mut history, question);
        verdict
    }

    /// Looks at one known process, unless someone has since `since`.
    async fn refresh(&self, id: ProcessId, since: Instant) -> Result<(), ProgressError> {
        let Some(probe_lock) = self.with_record(id, |record| {
            let fresh = record.seen.seen_at().is_some_and(|seen| seen >= since);
            (record.runs() && !fresh).then(|| Arc::clone(&record.access.probe_lock))
        }) else {
            return Ok(());
        };
        let mut last = probe_lock.lock().await;
        if let Some((begun, outcome)) = &*last
            && *begun >= since
        {
            return outcome.clone();
        }
        let known = self.with_record(id, |record| {
            record.runs().then(|| PositionProbe::of(record))
        });
        let Some(known) = known else {
            return Ok(());
        };
        let begun = Instant::now();
        let proc = self.inner.roots.proc.clone();
        let reading = self
            .inner
            .reads
            .one(id.pid, move |_| {
                let (reading, folder) = known.read(&proc)?;
                Ok((reading, folder, Instant::now()))
            })
            .await;
        self.inner.hear();
        let outcome = reading.map(|(reading, folder, at)| {
            self.with_record(id, |record| {
                record.note(reading, at);
                record.access.folder = folder.filter(|_| record.runs());
                Some(())
            });
        });
        self.log_once(id, &outcome);
        *last = Some((begun, outcome.clone()));
        outcome
    }

    /// Says in the log what is wrong with a process, once until it changes.
    fn log_once(&self, id: ProcessId, outcome: &Result<(), ProgressError>) {
        let trouble = outcome.as_ref().err().cloned();
        self.with_record(id, |record| {
            if record.said.trouble != trouble {
                if let Some(trouble) = &trouble {
                    tracing::warn!(
                        pid = id.pid,
                        error = trouble.detail(),
                        "cannot look at this dd"
                    );
                }
                record.said.trouble = trouble;
            }
            Some(())
        });
    }

    fn with_record<T>(
        &self,
        id: ProcessId,
        work: impl FnOnce(&mut Record) -> Option<T>,
    ) -> Option<T> {
        self.history().update(id, work).flatten()
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.inner.history.lock()
    }

    /// What is known of a process: its last position, and whether it runs.
    #[cfg(test)]
    pub(super) fn remembers(&self, pid: process::Pid) -> Option<(Option<u64>, bool)> {
        let history = self.history();
        let record = history.records().find(|record| record.dd.id.pid == pid)?;
        Some((record.seen.position, record.runs()))
    }

    /// How long scans took.
    #[must_use]
    pub fn scans_taken(&self) -> &Histogram {
        &self.inner.scans
    }

    /// How many scans there were.
    #[cfg(test)]
    pub(super) async fn scans(&self) -> u64 {
        // Not while one is going on.
        let _scan_state = self.inner.scan_state.lock().await;
        self.inner.scans.get_sample_count()
    }
}

/// What looking at this node has brought.
enum Looked {
    /// The answer.
    Something(Answer),
    /// Nothing to be seen: the answer unless a driver knows better.
    Nothing(Answer),
}

impl From<CopyVerdict> for Answer {
    fn from(verdict: CopyVerdict) -> Self {
        match verdict {
            CopyVerdict::Seen(answer) | CopyVerdict::Unseen(answer) => answer,
        }
    }
}
