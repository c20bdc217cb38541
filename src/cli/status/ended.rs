//! Copies that have ended while somebody watched: shown for a while with how far they came.

use std::time::{Duration, Instant};

use super::row::Row;
use crate::progress::speed::State;

/// How long a copy that is over stays on the screen.
const SHOWN_FOR: Duration = Duration::from_secs(60);

/// What ran at the last look, and what has ended lately.
#[derive(Debug, Default)]
pub(super) struct Ended {
    running: Vec<Row>,
    ended: Vec<(Instant, Row)>,
}

impl Ended {
    /// Takes in a look; returns those that have ended since the one before.
    pub(super) fn note(&mut self, running: &[Row], at: Instant) -> Vec<Row> {
        let key = |row: &Row| (row.pid, row.since.clone(), row.means);
        let is_over = |row: &Row| running.iter().all(|other| key(other) != key(row));
        let over: Vec<Row> = self
            .running
            .iter()
            .filter(|row| is_over(row))
            .map(outcome)
            .collect();
        self.ended
            .retain(|(ended, _)| at.saturating_duration_since(*ended) < SHOWN_FOR);
        self.ended.extend(over.iter().map(|row| (at, row.clone())));
        self.running = running.to_vec();
        over
    }

    /// Those that have ended lately, the latest first.
    pub(super) fn lately(&self) -> impl Iterator<Item = &Row> {
        self.ended.iter().rev().map(|(_, row)| row)
    }
}

/// A copy as it is shown once it is over: without a rate and a time left.
fn outcome(row: &Row) -> Row {
    let reached = row
        .bytes
        .zip(row.total_bytes)
        .is_some_and(|(bytes, total)| bytes >= total);
    Row {
        state: Some(if reached { State::Done } else { State::Ended }),
        bytes_per_second: None,
        seconds_left: None,
        ..row.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::CopyMethod;

    fn row(pid: i32, bytes: u64) -> Row {
        Row {
            volume_id: None,
            known_by: None,
            source: "/dev/sdb".to_owned(),
            destination: "/dev/sda".to_owned(),
            percent: None,
            bytes: Some(bytes),
            total_bytes: Some(100),
            bytes_per_second: Some(7),
            seconds_left: Some(7),
            since: None,
            pid,
            kind: "dd",
            state: Some(State::Copying),
            unseen: None,
            means: CopyMethod::Dd,
            settled: true,
        }
    }

    #[test]
    fn what_is_over_is_told_once_and_shown_for_a_while() {
        let begun = Instant::now();
        let mut ended = Ended::default();
        assert!(
            ended
                .note(&[row(1, 50), row(2, 100), row(3, 1)], begun)
                .is_empty()
        );
        let over = ended.note(&[row(3, 2)], begun);
        let states: Vec<_> = over
            .iter()
            .map(|row| (row.pid, row.state, row.seconds_left))
            .collect();
        assert_eq!(
            states,
            [(1, Some(State::Ended), None), (2, Some(State::Done), None)]
        );
        assert!(ended.note(&[row(3, 3)], begun + SHOWN_FOR / 2).is_empty());
        assert_eq!(ended.lately().count(), 2);
        ended.note(&[row(3, 4)], begun + SHOWN_FOR);
        assert_eq!(ended.lately().count(), 0);
    }
}
