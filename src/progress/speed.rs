//! How fast a copy is, and whether it moves at all.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::{CopyMethod, RunningCopy};

/// The time over which the rate is smoothed: storage works in bursts.
const SMOOTHING: Duration = Duration::from_secs(10);

/// How long a copy may stand still before it counts as stalled.
pub const STALLED: Duration = Duration::from_secs(3);

/// What a copy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It moves.
    Copying,
    /// All is written to the page cache, and not yet to the storage.
    Flushing,
    /// It has not moved for a while.
    Stalled,
    /// It is over, and had reached its end.
    Done,
    /// It is over, and its dd has failed.
    Failed,
    /// It is over, and its dd was killed.
    Killed,
    /// It is over, and was not seen to reach its end.
    Ended,
}

impl State {
    /// In lower case, as `--json` has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Copying => "copying",
            Self::Flushing => "flushing",
            Self::Stalled => "stalled",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Killed => "killed",
            Self::Ended => "ended",
        }
    }
}

/// The speeds of all copies seen so far.
#[derive(Debug, Default)]
pub struct Speeds {
    known: HashMap<Key, Speed>,
}

impl Speeds {
    /// Takes in a look made at `at`, by the wall clock `now`, and returns the speed of each copy as far as it is
    /// known. A copy that was not seen this time is forgotten.
    pub fn note(
        &mut self,
        running: &[RunningCopy],
        at: Instant,
        now: SystemTime,
    ) -> Vec<Option<Speed>> {
        self.known
            .retain(|known, _| running.iter().any(|copy| Key::of(copy) == *known));
        running
            .iter()
            .map(|copy| {
                let age = copy
                    .started
                    .and_then(|started| now.duration_since(started).ok());
                copy.position.map(|position| {
                    let speed = self
                        .known
                        .entry(Key::of(copy))
                        .or_insert_with(|| Speed::new(at, position, age));
                    speed.note(at, position);
                    *speed
                })
            })
            .collect()
    }
}

/// The key of a copy from one look to the next.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    pid: i32,
    method: CopyMethod,
    source: String,
    destination: String,
}

impl Key {
    fn of(copy: &RunningCopy) -> Self {
        Self {
            pid: copy.pid,
            method: copy.method,
            source: copy.source.clone(),
            destination: copy.destination.clone(),
        }
    }
}

/// The speed of one copy.
#[derive(Debug, Clone, Copy)]
pub struct Speed {
    last: (Instant, u64),
    moved: Option<Instant>,
    since: Instant,
    rate: Option<f64>,
    /// The weight of the looks so far: without it the first ones would hardly count beside a beginning that was
    /// not seen.
    weight: f64,
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
            weight: 0.0,
        }
    }

    fn note(&mut self, at: Instant, position: u64) {
        let (then, before) = self.last;
        let passed = at.saturating_duration_since(then).as_secs_f64();
        if passed <= 0.0 {
            return;
        }
        let rate = position.saturating_sub(before) as f64 / passed;
        let kept = (-passed / SMOOTHING.as_secs_f64()).exp();
        let known = self.weight * kept;
        self.weight = known + (1.0 - kept);
        // Until the second look the rate was that of the whole life, which includes how long dd took to begin.
        let before_this = self.rate.unwrap_or(rate);
        self.rate = Some((known * before_this + (1.0 - kept) * rate) / self.weight);
        if position != before {
            self.moved = Some(at);
        }
        self.last = (at, position);
    }

    /// Bytes a second, smoothed.
    #[must_use]
    pub fn bytes_per_second(&self) -> Option<u64> {
        // Far below 2^53, so nothing is lost in the conversion.
        self.rate.map(|rate| rate as u64)
    }

    /// Seconds until all of `total` is written at this rate; none while the copy stands still.
    #[must_use]
    pub fn seconds_left(&self, total: Option<u64>, at: Instant) -> Option<u64> {
        let left = total?.saturating_sub(self.last.1);
        let rate = self.rate.filter(|&rate| rate >= 1.0)?;
        (self.state(total, at) == State::Copying).then(|| (left as f64 / rate).ceil() as u64)
    }

    /// What the copy of `total` bytes does; copying until the opposite is certain.
    #[must_use]
    pub fn state(&self, total: Option<u64>, at: Instant) -> State {
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
    #[must_use]
    pub fn has_moved(&self) -> bool {
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
        assert_eq!(speed.bytes_per_second(), Some(10 * MIB));
        assert_eq!(
            Speed::new(Instant::now(), MIB, None).bytes_per_second(),
            None
        );
    }

    #[test]
    fn the_second_look_tells_the_rate_though_the_copy_began_slowly() {
        let begun = Instant::now();
        let mut speed = Speed::new(begun, 10 * MIB, Some(Duration::from_secs(10)));
        speed.note(begun + Duration::from_secs(1), 30 * MIB);
        assert_eq!(speed.bytes_per_second(), Some(20 * MIB));
    }

    #[test]
    fn a_new_rate_is_approached_and_one_burst_does_not_count_for_all() {
        let begun = Instant::now();
        let mut speed = Speed::new(begun, 0, None);
        for second in 1..=10_u32 {
            speed.note(
                begun + Duration::from_secs(second.into()),
                u64::from(second) * 10 * MIB,
            );
        }
        speed.note(begun + Duration::from_secs(11), 200 * MIB);
        let after_burst = speed.bytes_per_second().unwrap() as f64 / MIB as f64;
        assert!((15.0..30.0).contains(&after_burst), "{after_burst}");
        for second in 1..60_u32 {
            let position = 200 * MIB + u64::from(second) * 50 * MIB;
            speed.note(
                begun + Duration::from_secs(u64::from(11 + second)),
                position,
            );
        }
        let later = speed.bytes_per_second().unwrap() as f64 / MIB as f64;
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
