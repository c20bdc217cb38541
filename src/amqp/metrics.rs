//! What happened on the broker's side, in numbers that only grow.

use strum::{IntoStaticStr, VariantArray};

use crate::counters::Counter;

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

/// Why a backend's queue is not consumed for a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Reason {
    /// A queue is missing.
    Missing,
    /// Nobody consumes the topic queue.
    Unattended,
    /// Nobody but us consumes the server queue.
    Alone,
    /// Messages have come back to the server queue too often.
    Repeated,
    /// The user may not publish.
    Forbidden,
    /// A consumer of the topic queue has left.
    Leaving,
    /// Messages pile up on the topic queue.
    Backlog,
    /// The broker takes its time to answer.
    Slow,
    /// The topic queue vanished while it was handed over to.
    Vanished,
    /// The topic queue refused messages.
    Refused,
    /// A message asks for copies.
    Copies,
    /// The broker cancelled our consumer.
    Cancelled,
    /// The channel failed.
    Channel,
    /// The connection did.
    Connection,
}

impl Reason {
    /// Its name, one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}
