//! What became of each operation: executed once, or lost, doubled, out of order.

use std::collections::BTreeMap;
use std::time::Duration;

use super::answers::Answer;
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
    /// Calls, not lost, without their real result.
    pub unanswered: Vec<u64>,
    /// What became of the progress calls.
    pub progress: Progress,
    /// Came on T after one with a higher number.
    pub out_of_order: Vec<u64>,
    /// Came on T.
    pub handed_over: usize,
    /// From publishing to arrival.
    pub longest_delay: Duration,
}

/// How many progress calls ended in which way.
#[derive(Debug, Default)]
pub struct Progress {
    /// With a percentage: by the daemon.
    pub answered: usize,
    /// With an exception: by cinder-volume.
    pub refused: usize,
    /// Not at all.
    pub unanswered: usize,
}

impl Progress {
    /// Counts.
    pub fn of(sent: &Sent) -> Self {
        let mut progress = Self::default();
        for msg_id in &sent.progress_calls {
            match sent.answers.to(msg_id) {
                Some(Answer::Result(_)) => progress.answered += 1,
                Some(Answer::Failure) => progress.refused += 1,
                None => progress.unanswered += 1,
            }
        }
        progress
    }
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
            unanswered: sent.unanswered(),
            progress: Progress::of(sent),
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
        verdict
            .unanswered
            .retain(|number| came.contains_key(number));
        for (number, records) in &came {
            // Only what this consumer itself had before on the same queue: "redelivered" alone may
            // mean that the daemon had it.
            let recognised = |at: usize| {
                let again = records[at];
                let mut before = records[..at].iter();
                again.redelivered && before.any(|earlier| earlier.via == again.via)
            };
            if (1..records.len()).any(|at| !recognised(at)) {
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

    /// Panics unless each operation was executed exactly once and each call got its result.
    pub fn assert_exact(&self) {
        assert!(self.lost.is_empty(), "lost: {self:?}");
        assert!(self.doubled.is_empty(), "doubled: {self:?}");
        assert!(self.unanswered.is_empty(), "unanswered: {self:?}");
    }

    /// The same, and all came on T in order.
    pub fn assert_exact_and_in_order(&self) {
        self.assert_exact();
        assert!(self.out_of_order.is_empty(), "out of order: {self:?}");
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{Record, Sent, Verdict, Via};

    fn verdict(came: &[(u64, Via, bool)]) -> Verdict {
        let at = Instant::now();
        let mut sent = Sent::default();
        sent.accepted = [(1, at), (2, at)].into();
        let records: Vec<Record> = came
            .iter()
            .map(|(number, via, redelivered)| Record {
                number: Some(*number),
                via: *via,
                redelivered: *redelivered,
                at,
            })
            .collect();
        Verdict::of(&sent, &records)
    }

    #[test]
    fn handed_over_and_given_back_is_doubled() {
        for came in [
            [(1, Via::Topic, false), (1, Via::Server, true)],
            [(1, Via::Server, true), (1, Via::Topic, false)],
            [(1, Via::Topic, false), (1, Via::Topic, false)],
        ] {
            assert_eq!(verdict(&came).doubled, [1], "{came:?}");
        }
    }

    #[test]
    fn delivered_again_on_the_same_queue_is_not() {
        let came = [(1, Via::Topic, false), (1, Via::Topic, true)];
        assert!(verdict(&came).doubled.is_empty());
    }

    #[test]
    fn what_never_came_is_lost_and_what_came_late_is_out_of_order() {
        assert_eq!(verdict(&[(2, Via::Topic, false)]).lost, [1]);
        let came = [(2, Via::Topic, false), (1, Via::Topic, false)];
        assert_eq!(verdict(&came).out_of_order, [1]);
    }
}
