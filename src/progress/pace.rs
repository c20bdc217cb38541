//! The last position of a copy, its pace, and how far it may have come after the last look: one rule for copies by dd
//! and through open files. Pure.
//!
//! These paces are upper bounds, for the answer at the end of a copy: they follow the fastest stretch. The rate shown
//! to people is smoothed, in [`speed`](super::speed).

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::memory::unsaved::Unsaved;

/// How far back the recent pace of a copy is measured.
pub(super) const WINDOW: Duration = Duration::from_secs(2);

/// The shortest time a pace is measured over.
const LEAST: Duration = Duration::from_millis(100);

/// The longest time between the last look and the end for which the recent pace is extrapolated.
pub(super) const MAX_EXTRAPOLATION: Duration = Duration::from_millis(250);

/// How many times its recent pace a copy may have had between the last look and its end.
const BRIDGE_MARGIN: f64 = 2.0;

/// How many times its fastest pace a copy may have had while nobody looked.
const MARGIN: f64 = 4.0;

/// Bytes a second that no storage exceeds: the bound for a copy of unknown pace.
const FASTEST: f64 = (16_u64 << 30) as f64;

/// How far a copy was seen.
#[derive(Debug, Clone, Default, PartialEq, Hash, Serialize, Deserialize)]
pub(super) struct Observation {
    /// The last position seen, in bytes; of a dd, in its source.
    pub position: Option<u64>,
    /// Bytes: the last position, plus what the copy may have written just before its end, after the last look.
    #[serde(default)]
    reach: u64,
    /// Bytes that the copy certainly did not exceed, once it is over; none if the time of the last look is unknown.
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

    /// Takes in that the copy was seen to be over at the time `at`. It writes `piece` bytes at once.
    ///
    /// A dd ends within microseconds of its last write, so the full position is hardly ever seen. If the last look was
    /// at most [`MAX_EXTRAPOLATION`] before `at`, the recent pace is extrapolated from there to `at`. After an earlier
    /// look only the position seen counts.
    pub(super) fn ends(&mut self, at: Instant, piece: u64) {
        // After a restart the time of the last look is unknown: only the saved position counts.
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

    /// Whether it certainly ended before it had come to `end`.
    pub(super) fn was_cut_short(&self, end: u64) -> bool {
        self.at_most.is_some_and(|most| most < end)
    }

    /// Whether its position was seen to grow.
    pub(super) fn has_moved(&self) -> bool {
        self.track.fastest.is_some_and(|pace| pace > 0.0)
    }

    /// When the last position was seen; none if that was before a restart.
    pub(super) fn seen_at(&self) -> Option<Instant> {
        self.track.last().map(|(at, _)| at)
    }

    /// Whether it could come to `end` between two looks that are `interval` apart. Yes, if its pace is unknown.
    pub(super) fn nears(&self, end: u64, interval: Duration, piece: u64) -> bool {
        let Some(position) = self.position else {
            return false;
        };
        let Some(pace) = self.track.recent() else {
            return true;
        };
        let left = end.saturating_sub(position) as f64;
        // A copy that stalls close to its end may go on at any moment: at least a piece a second.
        let soon = pace.max(piece as f64);
        left > 0.0 && left <= soon * 2.0 * interval.max(WINDOW).as_secs_f64()
    }
}

/// The highest offset a copy can have reached that was last seen at `position`, had `pace` bytes a second at its
/// fastest, and then ran for `unseen` without a look.
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
    /// The highest recent pace so far, in bytes a second.
    fastest: Option<f64>,
}

impl Track {
    fn add(&mut self, at: Instant, position: u64) {
        self.positions.push_back((at, position));
        // Two positions stay whatever their age: a pace takes two.
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

    /// Bytes a second of the fastest stretch of [`LEAST`] or a little more: storage works in bursts, and a mean would
    /// underestimate the last one.
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
