//! Copies that ended while `status` watched. They are shown for a while, with their last position.

use std::time::{Duration, Instant};

use super::row::Row;
use crate::progress::CopyEnd;
use crate::progress::speed::State;

/// How long an ended copy stays on the screen.
const SHOWN_FOR: Duration = Duration::from_secs(60);

/// The copies that ran at the last scan, and those that ended recently.
#[derive(Debug, Default)]
pub(super) struct RecentCopies {
    running: Vec<Row>,
    ended: Vec<(Instant, Row)>,
}

impl RecentCopies {
    /// Notes the result of a scan. Returns the copies that have ended since the last scan. `end_of` returns how a copy
    /// ended.
    pub(super) fn note(
        &mut self,
        running: &[Row],
        at: Instant,
        end_of: impl Fn(&Row) -> Option<CopyEnd>,
    ) -> Vec<Row> {
        let key = |row: &Row| (row.pid, row.since.clone(), row.method);
        let is_over = |row: &Row| running.iter().all(|other| key(other) != key(row));
        let over: Vec<Row> = self
            .running
            .iter()
            .filter(|row| is_over(row))
            .map(|row| outcome(row, end_of(row)))
            .collect();
        self.ended
            .retain(|(ended, _)| at.saturating_duration_since(*ended) < SHOWN_FOR);
        self.ended.extend(over.iter().map(|row| (at, row.clone())));
        self.running = running.to_vec();
        over
    }

    /// The copies that ended recently, the latest first.
    pub(super) fn lately(&self) -> impl Iterator<Item = &Row> {
        self.ended.iter().rev().map(|(_, row)| row)
    }
}

/// An ended copy as it is shown: without a rate and a time left.
fn outcome(row: &Row, end: Option<CopyEnd>) -> Row {
    let reached = row
        .bytes
        .zip(row.total_bytes)
        .is_some_and(|(bytes, total)| bytes >= total);
    let state = match end {
        Some(CopyEnd::Done) => State::Done,
        Some(CopyEnd::Failed) => State::Failed,
        Some(CopyEnd::Killed) => State::Killed,
        None if reached => State::Done,
        Some(CopyEnd::Early | CopyEnd::Unknown) | None => State::Ended,
    };
    let done = state == State::Done;
    Row {
        state: Some(state),
        percent: if done { Some(100) } else { row.percent },
        bytes: row.total_bytes.filter(|_| done).or(row.bytes),
        bytes_per_second: None,
        seconds_left: None,
        ..row.clone()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::progress::CopyMethod;

    /// A dd that has copied `bytes` of 100.
    pub(in crate::cli::status) fn row(pid: i32, bytes: u64) -> Row {
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
            method: CopyMethod::Dd,
            settled: true,
            started: None,
        }
    }

    #[test]
    fn what_is_over_is_told_once_and_shown_for_a_while() {
        let begun = Instant::now();
        let mut ended = RecentCopies::default();
        let told = |row: &Row| match row.pid {
            4 => Some(CopyEnd::Killed),
            5 => Some(CopyEnd::Done),
            _ => None,
        };
        assert!(
            ended
                .note(
                    &[row(1, 50), row(2, 100), row(3, 1), row(4, 99), row(5, 99)],
                    begun,
                    told
                )
                .is_empty()
        );
        let over = ended.note(&[row(3, 2)], begun, told);
        let states: Vec<_> = over
            .iter()
            .map(|row| (row.pid, row.state, row.bytes, row.seconds_left))
            .collect();
        assert_eq!(
            states,
            [
                (1, Some(State::Ended), Some(50), None),
                (2, Some(State::Done), Some(100), None),
                (4, Some(State::Killed), Some(99), None),
                (5, Some(State::Done), Some(100), None),
            ]
        );
        assert!(
            ended
                .note(&[row(3, 3)], begun + SHOWN_FOR / 2, told)
                .is_empty()
        );
        assert_eq!(ended.lately().count(), 4);
        ended.note(&[row(3, 4)], begun + SHOWN_FOR, told);
        assert_eq!(ended.lately().count(), 0);
    }
}
