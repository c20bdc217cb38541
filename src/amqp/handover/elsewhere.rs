//! When to try the next broker host because the queues are missing on this one.
//!
//! A node of a cluster that sees only itself knows none of the queues, and says so for as long as it
//! is cut off. Where cinder-volume is simply not there yet no other host knows them either, so each
//! host is given more time than the one before.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What the backends of one connection know together.
#[derive(Debug)]
pub struct Elsewhere {
    /// How long queues may be missing; `None` where no other host is named.
    patience: Option<Duration>,
    backends: usize,
    /// Backends that have nothing here.
    nothing: AtomicUsize,
    leave: CancellationToken,
}

impl Elsewhere {
    /// For a connection that serves so many backends.
    #[must_use]
    pub fn new(patience: Option<Duration>, backends: usize) -> Self {
        Self {
            patience,
            backends,
            nothing: AtomicUsize::new(0),
            leave: CancellationToken::new(),
        }
    }

    /// Returns when no backend has found its queues for too long, or one of them has worn the connection out.
    /// Cancel-safe.
    pub async fn is_better(&self) {
        self.leave.cancelled().await;
    }

    /// All are to leave this connection, each when it has nothing under way.
    pub(super) fn leave(&self) {
        self.leave.cancel();
    }

    /// Whether all are to leave.
    pub(super) fn is_to_be_left(&self) -> bool {
        self.leave.is_cancelled()
    }

    /// One backend's part of it.
    pub(super) fn backend(&self) -> MissingHere<'_> {
        MissingHere {
            of: self,
            since: None,
            counted: false,
        }
    }
}

/// Since when the queues of one backend are missing.
#[derive(Debug)]
pub(super) struct MissingHere<'a> {
    of: &'a Elsewhere,
    since: Option<Instant>,
    counted: bool,
}

impl MissingHere<'_> {
    /// The queues were looked for.
    pub(super) fn looked(&mut self, is_missing: bool) {
        if !is_missing {
            self.since = None;
            if std::mem::take(&mut self.counted) {
                self.of.nothing.fetch_sub(1, Ordering::Relaxed);
            }
            return;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let too_long = |patience| since.elapsed() >= patience;
        if !self.counted && self.of.patience.is_some_and(too_long) {
            self.counted = true;
            let nothing = 1 + self.of.nothing.fetch_add(1, Ordering::Relaxed);
            if nothing == self.of.backends {
                self.of.leave.cancel();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(15);

    #[tokio::test(start_paused = true)]
    async fn all_backends_must_have_missed_their_queues_for_long_enough() {
        let elsewhere = Elsewhere::new(Some(PATIENCE), 2);
        let (mut one, mut two) = (elsewhere.backend(), elsewhere.backend());
        one.looked(true);
        tokio::time::advance(PATIENCE).await;
        one.looked(true);
        two.looked(true);
        assert!(elsewhere.is_better().now_or_never().is_none());
        // The queues of one come and go, and its time starts over.
        one.looked(false);
        one.looked(true);
        tokio::time::advance(PATIENCE).await;
        two.looked(true);
        assert!(elsewhere.is_better().now_or_never().is_none());
        one.looked(true);
        assert!(elsewhere.is_better().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_worn_out_is_left_by_all() {
        let elsewhere = Elsewhere::new(None, 2);
        assert!(!elsewhere.is_to_be_left());
        elsewhere.leave();
        assert!(elsewhere.is_to_be_left());
        assert!(elsewhere.is_better().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_other_host_is_named_nothing_is_better() {
        let elsewhere = Elsewhere::new(None, 1);
        let mut one = elsewhere.backend();
        one.looked(true);
        tokio::time::advance(PATIENCE * 100).await;
        one.looked(true);
        assert!(elsewhere.is_better().now_or_never().is_none());
    }
}
