//! Counters of what happened on the broker's side.

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
pub struct ByReason([Counter; Reason::ALL.len()]);

impl ByReason {
    /// The counter of `reason`.
    #[must_use]
    pub fn of(&self, reason: Reason) -> &Counter {
        &self.0[reason as usize]
    }
}

/// Why a backend's queue is not consumed for a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// The broker is slow to answer.
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
    /// The connection failed.
    Connection,
}

impl Reason {
    /// All of them, in the order of their definition.
    pub const ALL: [Self; 14] = [
        Self::Missing,
        Self::Unattended,
        Self::Alone,
        Self::Repeated,
        Self::Forbidden,
        Self::Leaving,
        Self::Backlog,
        Self::Slow,
        Self::Vanished,
        Self::Refused,
        Self::Copies,
        Self::Cancelled,
        Self::Channel,
        Self::Connection,
    ];

    /// Its name, one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unattended => "unattended",
            Self::Alone => "alone",
            Self::Repeated => "repeated",
            Self::Forbidden => "forbidden",
            Self::Leaving => "leaving",
            Self::Backlog => "backlog",
            Self::Slow => "slow",
            Self::Vanished => "vanished",
            Self::Refused => "refused",
            Self::Copies => "copies",
            Self::Cancelled => "cancelled",
            Self::Channel => "channel",
            Self::Connection => "connection",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_in_the_order_of_their_numbers() {
        for (at, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
        }
    }
}
