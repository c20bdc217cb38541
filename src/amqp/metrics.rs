//! Counters of what happened on the broker's side.

use prometheus::IntCounter;
use strum::VariantArray;

use crate::counters::{counter, counters};
use crate::liveness::Reason;

/// The counters of this process, shared by all its connections.
#[derive(Debug)]
pub struct Counters {
    /// Messages handed over to cinder-volume's topic queue.
    pub handed_over: IntCounter,
    /// Messages that the broker returned from the topic queue, because it had just vanished.
    pub returned: IntCounter,
    /// Messages of a transaction that the broker carried out in part, without saying which part.
    pub in_doubt: IntCounter,
    /// Returned messages that are back on the server queue.
    pub republished: IntCounter,
    /// Messages given back when one among them had come back twice before.
    pub left: IntCounter,
    /// Times that serving a queue was given up to be tried again, by reason.
    pub stood_aside: ByReason,
    /// Replies that the broker confirmed.
    pub replies: IntCounter,
    /// Replies dropped because their caller's queue stayed away.
    pub replies_dropped: IntCounter,
    /// Connections opened.
    pub connections: IntCounter,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            handed_over: counter(
                "cinder_progress_handed_over_total",
                "Messages handed over to the topic queue of cinder-volume.",
            ),
            returned: counter(
                "cinder_progress_returned_total",
                "Messages that the topic queue did not take and that go back to the server queue.",
            ),
            in_doubt: counter(
                "cinder_progress_in_doubt_total",
                "Messages of which the broker refused some without saying which: operations to look for.",
            ),
            republished: counter(
                "cinder_progress_put_back_total",
                "Messages among those that are back on the server queue.",
            ),
            left: counter(
                "cinder_progress_left_to_cinder_volume_total",
                "Messages left to cinder-volume because one among them came back again and again.",
            ),
            stood_aside: ByReason(counters(
                "cinder_progress_stood_aside_total",
                "Times that a queue was left to cinder-volume for a moment, by reason.",
                "reason",
                |at| Reason::VARIANTS[at].name(),
            )),
            replies: counter(
                "cinder_progress_replies_total",
                "Replies that the broker has confirmed.",
            ),
            replies_dropped: counter(
                "cinder_progress_replies_dropped_total",
                "Replies dropped because the queue of their caller stayed away.",
            ),
            connections: counter(
                "cinder_progress_connections_total",
                "Connections to a broker opened; three of them at the start, in mode direct two.",
            ),
        }
    }
}

/// A counter for each [`Reason`].
#[derive(Debug)]
pub struct ByReason(
    /// In the order of [`Reason::VARIANTS`].
    pub [IntCounter; Reason::VARIANTS.len()],
);

impl ByReason {
    /// The counter of `reason`.
    #[must_use]
    pub fn of(&self, reason: Reason) -> &IntCounter {
        &self.0[reason as usize]
    }
}
