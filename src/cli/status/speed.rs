//! How fast a copy is, and whether it moves at all.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::row::Row;
use crate::config::Local;
use crate::progress::{Copies, Means, RunningCopy};

/// The time over which the rate is smoothed: storage works in bursts.
const SMOOTHING: Duration = Duration::from_secs(10);

/// How long a copy may stand still before it counts as stalled.
pub(super) const STALLED: Duration = Duration::from_secs(3);

/// What a copy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// It moves.
    Copying,
    /// All is written, and the storage has yet to have it.
    Flushing,
    /// It has not moved for a while.
    Stalled,
}

/// The speeds of all copies seen so far.
#[derive(Debug, Default)]
pub(super) struct Speeds {
    known: HashMap<(i32, Option<SystemTime>, Means), Speed>,
}

impl Speeds {
    /// Takes in a look and tells of each copy what there is to tell.
    pub(super) fn rows(
        &mut self,
        copies: &Copies,
        local: &Local,
        at: Instant,
        now: SystemTime,
    ) -> Vec<Row> {
        let key = |copy: &RunningCopy| (copy.pid, copy.started, copy.means);
        self.known
            .retain(|known, _| copies.running.iter().any(|copy| key(copy) == *known));
        copies
            .running
            .iter()
            .map(|copy| {
                let age = copy
                    .started
                    .and_then(|started| now.duration_since(started).ok());
                let speed = copy.position.map(|position| {
                    let speed = self
                        .known
                        .entry(key(copy))
                        .or_insert_with(|| Speed::new(at, position, age));
                    speed.note(at, position);
                    *speed
                });
                Row::new(copy, &local.volume_name_template, speed, at)
            })
            .collect()
    }
}

/// One copy's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Speed {
    last: (Instant, u64),
    moved: Option<Instant>,
    since: Instant,
    rate: Option<f64>,
}

impl Speed {
    /// What is known at the first look: how far it came in its whole life.
    fn new(at: Instant, position: u64, age: Option<Duration>) -> Self {
        let life = age.map_or(0.0, |age| age.as_secs_f64());
        Self {
            last: (at, position),
            moved: None,
            since: at,
            rate: (life > 0.0).then(|| position as f64 / life),
        }
    }

    fn note(&mut self, at: Instant, position: u64) {
        let (then, before) = self.last;
        let passed = at.saturating_duration_since(then).as_secs_f64();
        if passed <= 0.0 {
            return;
        }
        let rate = position.saturating_sub(before) as f64 / passed;
        let weight = 1.0 - (-passed / SMOOTHING.as_secs_f64()).exp();
        self.rate = Some(match self.rate {
            Some(known) => known + weight * (rate - known),
            None => rate,
        });
        if position != before {
            self.moved = Some(at);
        }
        self.last = (at, position);
    }

    /// Bytes a second.
    pub(super) fn rate(&self) -> Option<f64> {
        self.rate
    }

    /// What the copy of `total` bytes does; copying until the opposite is certain.
    pub(super) fn state(&self, total: Option<u64>, at: Instant) -> State {
        let still = at.saturating_duration_since(self.moved.unwrap_or(self.since));
        if total.is_some_and(|total| total > 0 && self.last.1 >= total) {
            State::Flushing
        } else if still >= STALLED {
            State::Stalled
        } else {
            State::Copying
        }
    }

    /// Whether it was seen to move.
    pub(super) fn has_moved(&self) -> bool {
        self.moved.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_first_rate_is_that_of_its_whole_life() {
        let speed = Speed::new(Instant::now(), 100 * MIB, Some(Duration::from_secs(10)));
        assert_eq!(speed.rate(), Some(10.0 * MIB as f64));
        assert_eq!(Speed::new(Instant::now(), MIB, None).rate(), None);
    }

    #[test]
    fn a_new_rate_is_approached_and_one_burst_does_not_count_for_all() {
        let begun = Instant::now();
        let mut speed = Speed::new(begun, 100 * MIB, Some(Duration::from_secs(10)));
        speed.note(begun + Duration::from_secs(1), 200 * MIB);
        let after_burst = speed.rate().unwrap() / MIB as f64;
        assert!((15.0..25.0).contains(&after_burst), "{after_burst}");
        for second in 2..60_u32 {
            let position = 200 * MIB + u64::from(second) * 50 * MIB;
            speed.note(begun + Duration::from_secs(second.into()), position);
        }
        let later = speed.rate().unwrap() / MIB as f64;
        assert!((49.0..51.0).contains(&later), "{later}");
    }

    #[test]
    fn standing_still_is_stalling_and_at_the_end_it_is_flushing() {
        let begun = Instant::now();
        let mut speed = Speed::new(begun, MIB, None);
        assert_eq!(speed.state(Some(2 * MIB), begun), State::Copying);
        let later = begun + STALLED;
        speed.note(later, MIB);
        assert_eq!(speed.state(Some(2 * MIB), later), State::Stalled);
        assert_eq!(speed.state(Some(MIB), later), State::Flushing);
        speed.note(later + Duration::from_secs(1), MIB + 1);
        let again = later + Duration::from_secs(1);
        assert_eq!(speed.state(Some(2 * MIB), again), State::Copying);
        assert_eq!(speed.state(None, again + STALLED), State::Stalled);
    }
}
