//! Waiting times that grow, and that differ from those of other nodes.

use std::time::Duration;

/// Waiting times that start at `first`, grow by `step` and end at `longest`, each shortened or
/// lengthened by up to half.
///
/// The linear growth is kombu's (`interval_start`, `interval_step`, `interval_max`), which
/// oslo.messaging sets from `rabbit_retry_interval`, `rabbit_retry_backoff` and
/// `rabbit_interval_max`. The jitter is ours: a thousand nodes that lose the same broker in the
/// same instant must not come back in the same instant.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    step: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Waiting times from `first` by steps of `step` up to `longest`.
    #[must_use]
    pub fn new(first: Duration, step: Duration, longest: Duration) -> Self {
        Self {
            first,
            step,
            longest,
            next: first,
        }
    }

    /// The time to wait now; the one after it will be longer.
    pub fn wait(&mut self) -> Duration {
        let base = self.next.min(self.longest);
        self.next = (self.next + self.step).min(self.longest);
        jittered(base)
    }

    /// Starts over: things went well for a while.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// `time`, shortened or lengthened by up to half.
#[must_use]
pub fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.5 + fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_by_steps_up_to_the_longest_and_starts_over() {
        let mut backoff = Backoff::new(
            Duration::from_secs(1),
            Duration::from_secs(2),
            Duration::from_secs(6),
        );
        for base in [1.0, 3.0, 5.0, 6.0, 6.0] {
            let wait = backoff.wait().as_secs_f64();
            assert!((base * 0.5..=base * 1.5).contains(&wait), "{base}: {wait}");
        }
        backoff.reset();
        assert!(backoff.wait() <= Duration::from_millis(1500));
    }
    /// A thousand nodes that lose the same broker must not come back in step: were they to wait alike,
    /// all of them would be in one of these hundred slices of time.
    #[test]
    fn a_thousand_do_not_fall_together() {
        for tries in 1..=4 {
            let mut slices = [0; 100];
            for _ in 0..1000 {
                let second = Duration::from_secs(1);
                let mut backoff = Backoff::new(second, second, 3 * second);
                let wait = (0..tries).map(|_| backoff.wait()).last().unwrap();
                let base = f64::from(tries.min(3));
                let slice = (wait.as_secs_f64() / base - 0.5) * 100.0;
                slices[(slice as usize).min(99)] += 1;
            }
            // Ten on average; by chance more than forty in one slice once in many billion runs.
            assert!(slices.iter().all(|&count| count < 40), "{slices:?}");
        }
    }
}
