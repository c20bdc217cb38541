//! What became of each operation: executed once, or lost, doubled, out of order.

use std::collections::BTreeMap;
use std::time::Duration;

use super::load::Sent;
use super::recorder::{Record, Via};

/// The comparison of what was sent with what came.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Operations that the broker has accepted.
    pub operations: usize,
    /// Accepted and never executed.
    pub lost: Vec<u64>,
    /// Executed more than once, what oslo.messaging recognises as the same delivery aside.
    pub doubled: Vec<u64>,
    /// Came on T after one with a higher number.
    pub out_of_order: Vec<u64>,
    /// Came on T.
    pub handed_over: usize,
    /// From publishing to arrival.
    pub longest_delay: Duration,
}

impl Verdict {
    /// Compares.
    ///
    /// A message that comes again on the *same* queue with the broker's remark "redelivered" is
    /// not counted as doubled: its acknowledgement was lost with a connection, which happens to
    /// every consumer, and oslo.messaging's filter recognises it. The same operation on both
    /// queues, or twice on one without the remark, nothing recognises.
    pub fn of(sent: &Sent, records: &[Record]) -> Self {
        let mut came: BTreeMap<u64, Vec<&Record>> = BTreeMap::new();
        for record in records {
            if let Some(number) = record.number {
                came.entry(number).or_default().push(record);
            }
        }
        let mut verdict = Self {
            operations: sent.accepted.len(),
            ..Self::default()
        };
        for (number, at) in &sent.accepted {
            match came.get(number) {
                Some(records) => {
                    let delay = records[0].at.saturating_duration_since(*at);
                    verdict.longest_delay = verdict.longest_delay.max(delay);
                }
                None => verdict.lost.push(*number),
            }
        }
        for (number, records) in &came {
            let recognised =
                |again: &Record| again.redelivered && records.iter().any(|r| r.via == again.via);
            if records[1..].iter().any(|again| !recognised(again)) {
                verdict.doubled.push(*number);
            }
        }
        let mut highest = 0;
        for record in records.iter().filter(|record| record.via == Via::Topic) {
            let Some(number) = record.number else {
                continue;
            };
            verdict.handed_over += 1;
            if number < highest && !record.redelivered {
                verdict.out_of_order.push(number);
            }
            highest = highest.max(number);
        }
        verdict
    }

    /// Panics unless each operation was executed exactly once.
    pub fn assert_exact(&self) {
        assert!(self.lost.is_empty(), "lost: {self:?}");
        assert!(self.doubled.is_empty(), "doubled: {self:?}");
    }

    /// The same, and all came on T in order.
    pub fn assert_exact_and_in_order(&self) {
        self.assert_exact();
        assert!(self.out_of_order.is_empty(), "out of order: {self:?}");
    }
}
