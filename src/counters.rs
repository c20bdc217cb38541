//! Numbers that only grow, for whoever moves them and whoever reads them.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds, in milliseconds, under which [`Timings`] are counted. A look at a known copy takes less
/// than the first, a look that hangs about a second, a driver's command as long as it is given.
const BOUNDS: [u32; 12] = [1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];

/// How long things took, counted by length.
#[derive(Debug, Default)]
pub struct Timings {
    /// One for each of [`BOUNDS`], and one for what took longer.
    counts: [Counter; BOUNDS.len() + 1],
    microseconds: Counter,
}

/// [`Timings`] at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct TimingsNow {
    /// Upper bound in seconds, and how many took as long or less; the last bound is infinite.
    pub buckets: [(f64, u64); BOUNDS.len() + 1],
    /// Seconds they took all together.
    pub sum: f64,
}

impl TimingsNow {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.last().map_or(0, |&(_, count)| count)
    }
}

impl Timings {
    /// Counts one that took `duration`.
    pub fn add(&self, duration: Duration) {
        let bucket = BOUNDS
            .iter()
            .position(|&bound| duration <= Duration::from_millis(bound.into()))
            .unwrap_or(BOUNDS.len());
        self.counts[bucket].add(1);
        self.microseconds
            .add(usize::try_from(duration.as_micros()).unwrap_or(usize::MAX));
    }

    /// What was counted so far.
    #[must_use]
    pub fn now(&self) -> TimingsNow {
        let mut so_far = 0;
        let buckets = array::from_fn(|at| {
            so_far += self.counts[at].get();
            let bound = BOUNDS.get(at);
            let seconds = bound.map_or(f64::INFINITY, |&bound| f64::from(bound) / 1e3);
            (seconds, so_far)
        });
        TimingsNow {
            buckets,
            sum: self.microseconds.get() as f64 / 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timings_are_counted_under_every_bound_they_fit() {
        let timings = Timings::default();
        for milliseconds in [0, 1, 2, 300, 60_000] {
            timings.add(Duration::from_millis(milliseconds));
        }
        let now = timings.now();
        let under = |seconds| now.buckets.iter().find(|(bound, _)| *bound == seconds);
        assert_eq!(under(0.001), Some(&(0.001, 2)));
        assert_eq!(under(0.25), Some(&(0.25, 3)));
        assert_eq!(under(0.5), Some(&(0.5, 4)));
        assert_eq!(under(10.0), Some(&(10.0, 4)));
        assert_eq!(now.count(), 5);
        assert!((now.sum - 60.303).abs() < 1e-9, "{}", now.sum);
    }
}
