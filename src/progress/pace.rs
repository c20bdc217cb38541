//! How far a copy was seen, how fast it was, and how far it may have come unseen: one rule for both ways of
//! copying. Pure.
//!
//! These are bounds, for the answer at the end of a copy: they follow the fastest stretch. The rate shown to
//! people is smoothed, in [`speed`](super::speed).

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::memory::unsaved::Unsaved;

/// How far back the recent pace of a copy is measured.
pub(super) const WINDOW: Duration = Duration::from_secs(2);

/// The shortest time a pace is measured over.
const LEAST: Duration = Duration::from_millis(100);

/// The longest time between the last position seen and the end that the recent pace is trusted to bridge.
pub(super) const MAX_EXTRAPOLATION: Duration = Duration::from_millis(250);

/// How much faster than in the last seconds a copy may have been in its last moments.
const BRIDGE_MARGIN: f64 = 2.0;

/// How much faster than ever before a copy may have been unseen.
const MARGIN: f64 = 4.0;

/// Faster than any storage copies, in bytes a second: what a copy of unknown pace cannot have done unseen.
const FASTEST: f64 = (16_u64 << 30) as f64;

/// How far a copy was seen.
#[derive(Debug, Clone, Default, PartialEq, Hash, Serialize, Deserialize)]
pub(super) struct Observation {
    /// The last position seen, in bytes; of a dd, in its source.
    pub position: Option<u64>,
    /// How far it counts as having come, in bytes; more than the position where it ended close to its end.
    #[serde(default)]
    reach: u64,
    /// The furthest it may have come, in bytes, once it is over and where that can be told.
    #[serde(default)]
    at_most: Option<u64>,
    #[serde(skip)]
    track: Unsaved<Track>,
}

impl Observation {
    /// Takes in that it was at `position` at the time `at`.
    pub(super) fn goes_on_at(&mut self, position: u64, at: Instant) {
        if self.track.last().is_some_and(|(last, _)| at < last) {
            return;
        }
        self.track.add(at, position);
        self.position = Some(position);
        self.reach = self.reach.max(position);
        self.at_most = None;
    }

    /// Takes in that it was seen to be over at the time `at`. It writes in pieces of so many bytes.
    ///
    /// A dd ends within microseconds of its last write, so hardly ever is the full position seen. It counts
    /// as having come as far as its recent pace leads in the fraction of a second between the last look and
    /// its end. If it was looked at less recently than that, only what was seen counts.
    pub(super) fn ends(&mut self, at: Instant, piece: u64) {
        // When an earlier run of the daemon saw it last is not known.
        let Some((seen, position)) = self.track.last() else {
            return;
        };
        let unseen = at.saturating_duration_since(seen);
        let most = at_most(position, self.track.fastest, unseen);
        self.at_most = Some(most.saturating_add(piece));
        if let Some(pace) = self.track.recent().filter(|&pace| pace > 0.0)
            && unseen <= MAX_EXTRAPOLATION
        {
            let bridged = BRIDGE_MARGIN * pace * unseen.as_secs_f64() + piece as f64;
            // Far below 2^53, so nothing is lost in the conversion.
            self.reach = self.reach.max(position.saturating_add(bridged as u64));
        }
    }

    /// Whether it counts as having come to `end`.
    pub(super) fn reached(&self, end: u64) -> bool {
        self.position.is_some() && self.reach >= end
    }

    /// Whether it surely was over before it had come to `end`.
    pub(super) fn was_cut_short(&self, end: u64) -> bool {
        self.at_most.is_some_and(|most| most < end)
    }

    /// Whether it was ever seen to move.
    pub(super) fn has_moved(&self) -> bool {
        self.track.fastest.is_some_and(|pace| pace > 0.0)
    }

    /// When this daemon saw the last position.
    pub(super) fn seen_at(&self) -> Option<Instant> {
        self.track.last().map(|(at, _)| at)
    }

    /// Whether it could come to `end` between two looks that are `interval` apart, or its pace is unknown.
    pub(super) fn nears(&self, end: u64, interval: Duration, piece: u64) -> bool {
        let Some(position) = self.position else {
            return false;
        };
        let Some(pace) = self.track.recent() else {
            return true;
        };
        let left = end.saturating_sub(position) as f64;
        // One that stalls close to its end may go on any moment.
        let soon = pace.max(piece as f64);
        left > 0.0 && left <= soon * 2.0 * interval.max(WINDOW).as_secs_f64()
    }
}

/// The furthest that a copy may have come that was last seen at `position`, was never faster than `pace`
/// bytes a second, and went on `unseen`.
fn at_most(position: u64, pace: Option<f64>, unseen: Duration) -> u64 {
    let pace = pace.filter(|&pace| pace > 0.0);
    let pace = pace.map_or(FASTEST, |pace| (MARGIN * pace).min(FASTEST));
    // Rounded towards more; what is too large for 64 bits becomes the largest.
    position.saturating_add((pace * unseen.as_secs_f64()).ceil() as u64)
}

/// The last few positions of a copy.
#[derive(Debug, Clone, Default)]
struct Track {
    positions: VecDeque<(Instant, u64)>,
    /// The most bytes a second of any stretch so far.
    fastest: Option<f64>,
}

impl Track {
    fn add(&mut self, at: Instant, position: u64) {
        self.positions.push_back((at, position));
        // Two stay whatever their age: a pace takes two.
        while self.positions.len() > 2
            && self
                .positions
                .front()
                .is_some_and(|&(first, _)| at.duration_since(first) > WINDOW)
        {
            self.positions.pop_front();
        }
        if let Some(pace) = self.recent() {
            self.fastest = Some(pace.max(self.fastest.unwrap_or(0.0)));
        }
    }

    fn last(&self) -> Option<(Instant, u64)> {
        self.positions.back().copied()
    }

    /// The most bytes a second of any stretch of [`LEAST`] or a little more: storage works in bursts,
    /// and the last one is not to be underestimated.
    fn recent(&self) -> Option<f64> {
        let mut starts = self.positions.iter().peekable();
        let mut fastest = None;
        for &(to, end) in &self.positions {
            let long_enough = |(from, _): &&(Instant, u64)| to.duration_since(*from) >= LEAST;
            let mut start = None;
            while let Some(later) = starts.next_if(long_enough) {
                start = Some(later);
            }
            if let Some(&(from, start)) = start {
                let pace = end.saturating_sub(start) as f64 / to.duration_since(from).as_secs_f64();
                fastest = Some(pace.max(fastest.unwrap_or(0.0)));
            }
        }
        fastest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_on_unseen_for_long_may_have_been_completed() {
        let second = Duration::from_secs(1);
        let gib = 1 << 30;
        assert_eq!(at_most(24 * gib, None, second), 40 * gib);
        assert_eq!(at_most(24 * gib, Some(gib as f64), 5 * second), 44 * gib);
        assert_eq!(at_most(24 * gib, Some(0.0), second), 40 * gib);
        assert_eq!(at_most(24 * gib, None, Duration::ZERO), 24 * gib);
        assert_eq!(at_most(gib, None, Duration::MAX), u64::MAX);
    }
}
