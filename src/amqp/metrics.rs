//! Counters of what happened on the broker's side.

use strum::VariantArray;

use crate::counters::Counter;
use crate::liveness::Reason;

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
    pub republished: Counter,
    /// Messages given back when one among them had come back twice before.
    pub left: Counter,
    /// Times that serving a queue was given up to be tried again, by reason.
    pub stood_aside: ByReason,
    /// Replies that the broker confirmed.
    pub replies: Counter,
    /// Replies dropped because their caller's queue stayed away.
    pub replies_dropped: Counter,
    /// Connections opened.
    pub connections: Counter,
}

/// A counter for each [`Reason`].
#[derive(Debug, Default)]
pub struct ByReason([Counter; Reason::VARIANTS.len()]);

impl ByReason {
    /// The counter of `reason`.
    #[must_use]
    pub fn of(&self, reason: Reason) -> &Counter {
        &self.0[reason as usize]
    }
}
