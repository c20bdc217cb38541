//! Scans of the process table: one at a time, shared by all who ask meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Tracker;
use super::scan_gap::ScanGap;
use crate::progress::assign;
use crate::progress::host_based::scan::Table;
use crate::progress::proc::error::ProgressError;
use crate::progress::proc::process::Pid;

/// The scans so far.
#[derive(Debug, Default)]
pub(super) struct ScanState {
    table: Table,
    /// Those who may copy through open files.
    pub(super) copiers: Vec<Pid>,
    begun: Option<Instant>,
    gap: ScanGap,
}

/// A scan's outcome: it may be through and still have missed something.
pub(super) type Outcome = Result<Option<ProgressError>, ProgressError>;

impl Tracker {
    /// Waits for a scan that began after `since`; tells what it could not see.
    pub(super) async fn scan_since(&self, since: Instant) -> Outcome {
        let scan_state = Arc::clone(&self.inner.scan_state).lock_owned().await;
        if scan_state.begun.is_some_and(|begun| begun >= since) {
            return self.inner.outcome.lock().clone();
        }
        self.scan(scan_state).await.unwrap_or_else(|broken| {
            Err(ProgressError::Io {
                path: self.inner.roots.proc.clone(),
                kind: std::io::ErrorKind::Other,
                cause: broken.to_string(),
            })
        })
    }

    /// Begins a scan in the background if none is going on and the last is old.
    pub(super) fn scan_if_older_than(&self, age: Duration) {
        if let Ok(scan_state) = Arc::clone(&self.inner.scan_state).try_lock_owned()
            && scan_state.begun.is_none_or(|begun| begun.elapsed() >= age)
        {
            drop(self.scan(scan_state));
        }
    }

    /// A scan is a task of its own: it is not lost with the caller who began it.
    fn scan(&self, mut scan_state: OwnedMutexGuard<ScanState>) -> JoinHandle<Outcome> {
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            scan_state.gap.rest().await;
            let begun = Instant::now();
            // A scan that panics leaves an empty table, so that the next one looks at all: what is in the table and
            // not in the history would never be found.
            let mut table = std::mem::take(&mut scan_state.table);
            let outcome = table.scan(&inner.reads, &inner.roots).await;
            let outcome = outcome.map(|mut scan| {
                scan_state.copiers = std::mem::take(&mut scan.copiers);
                inner
                    .files
                    .observe(std::mem::take(&mut scan.cinder_volumes));
                let missed = scan.trouble.take();
                // Before: what is new by this scan may have a number of what has ended.
                inner.hear();
                let mut history = inner.history.lock();
                if history.take_in(scan, Instant::now()) {
                    inner.found.notify_one();
                }
                history.forget();
                let mut files = inner.files.copies();
                assign::by_request(&mut history, &mut files);
                drop(history);
                files.forget();
                drop(files);
                inner.listen();
                missed
            });
            scan_state.table = table;
            let cost = begun.elapsed();
            inner.scans.observe(cost.as_secs_f64());
            // Not before: one that panicked has no outcome for those who asked before it began.
            scan_state.begun = Some(begun);
            scan_state.gap.scanned(begun, cost);
            let before = std::mem::replace(&mut *inner.outcome.lock(), outcome.clone());
            if before != outcome
                && let Err(error) | Ok(Some(error)) = &outcome
            {
                tracing::warn!(
                    error = error.detail(),
                    "not every process could be looked at"
                );
            }
            outcome
        })
    }
}
