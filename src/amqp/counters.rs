//! What happened on the broker's side, in numbers that only grow.

use std::sync::atomic::{AtomicU64, Ordering};

/// One number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of this process, shared by all its connections.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages handed over to cinder-volume's topic queue.
    pub handed_over: Counter,
    /// Messages that the broker returned from the topic queue, because it had just vanished.
    pub returned: Counter,
    /// Messages of a transaction that the broker carried out in part, without saying which part.
    pub in_doubt: Counter,
    /// Returned messages that are back on the server queue.
    pub put_back: Counter,
    /// Times that serving a queue was given up to be tried again.
    pub retried: Counter,
    /// Replies that the broker confirmed.
    pub replies: Counter,
    /// Replies dropped because their caller's queue stayed away.
    pub replies_dropped: Counter,
    /// Connections opened.
    pub connections: Counter,
}
