//! The upkeep: finds copies nobody has asked about, and sees the last position of a copy before it is over.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::Tracker;
use crate::progress::memory::copy_store::CopyRecord;
use crate::progress::proc::process::ProcessId;
use crate::progress::state::writer::{Remembered, StateWriter};
use crate::ticker;

/// How often a copy close to its end is looked at: dd is gone within microseconds of its last write.
const CLOSE_WATCH: Duration = Duration::from_millis(20);

/// So many scans lie between two sweeps through what cinder-volume has open: every ten seconds by default.
const SCANS_A_SWEEP: u32 = 10;

/// Copies looked at at the same time in the background: as many threads are kept for it.
const AT_ONCE: usize = 8;

/// How long the last look before stopping may take.
const LAST_LOOK: Duration = Duration::from_millis(500);

impl Tracker {
    /// Keeps what is known fresh until `stop` is done: finds copies nobody has asked about yet, and sees
    /// the last position of a copy before dd is gone.
    pub async fn watch(self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let path = self.inner.state_file.clone();
        let mut writer = path.map(|path| {
            let remembered = Remembered {
                dds: Arc::clone(&self.inner.history),
                files: self.inner.files.shared(),
            };
            StateWriter::new(path, self.inner.roots.proc.clone(), remembered)
        });
        loop {
            let round = async {
                self.refresh_all().await;
                tokio::select! {
                    () = self.pause() => {}
                    () = self.inner.found.notified() => {}
                }
            };
            tokio::select! {
                () = &mut stop => break,
                () = round => {}
            }
            if let Some(writer) = &mut writer
                && self.keeps_state_file()
            {
                writer.keep().await;
            }
        }
        if let Some(writer) = writer
            && self.keeps_state_file()
        {
            // What is written down last should be the last there was to see.
            let _ = tokio::time::timeout(LAST_LOOK, self.refresh_all()).await;
            writer.finish().await;
        }
    }

    fn keeps_state_file(&self) -> bool {
        !self.inner.leaves_state_file.load(Ordering::Relaxed)
    }

    /// One round of the background upkeep.
    async fn refresh_all(&self) {
        // Rounds are as far apart as scans should be, but for what waking up takes.
        self.scan_if_older_than(self.inner.scan_interval * 9 / 10);
        self.sweep_if_due();
        let now = Instant::now();
        let running: Vec<ProcessId> = self
            .history()
            .records()
            .filter(|record| record.runs())
            .map(|record| record.dd.id)
            .collect();
        let running = async {
            for some in running.chunks(AT_ONCE) {
                join_all(some.iter().map(|&id| self.refresh(id, now))).await;
            }
        };
        futures_util::join!(running, self.inner.files.look_again());
    }

    /// Begins to look through what cinder-volume has open, in a task of its own: a process that hangs
    /// must not delay the next look at a dd.
    fn sweep_if_due(&self) {
        if self
            .inner
            .files
            .is_due(self.inner.scan_interval * SCANS_A_SWEEP)
        {
            let inner = Arc::clone(&self.inner);
            tokio::spawn(async move { inner.files.sweep().await });
        }
    }

    /// Waits until the next round is due.
    async fn pause(&self) {
        let interval = self.inner.scan_interval;
        let close = self
            .history()
            .records()
            .any(|record| record.nears_its_end(interval));
        if close {
            tokio::time::sleep(CLOSE_WATCH.min(interval)).await;
        } else {
            ticker::tick(interval).await;
        }
    }
}
