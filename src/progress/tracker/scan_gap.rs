//! How long scans rest between each other.

use std::time::Duration;

/// How many times as long as a scan took the next one is not begun: scans take a tenth of the time at most,
/// however many ask about volumes that have no copy.
const REST: u32 = 9;

/// The shortest rest. A scan finds a process whose id was given out before its folder was there only if the folder is
/// there at the next scan: with less time between the two a dd could be missed for minutes.
const SHORTEST: Duration = Duration::from_millis(100);

/// The longest rest. A scan takes longer than a ninth of this where it reads about thousands of processes for the first
/// time, or where a read hangs, and then it has mostly waited: what hangs is remembered, and the next scan is a
/// short one. A caller waits for a scan that goes on, the rest and a scan of its own, all within its
/// [`CALL_LIMIT`](super::CALL_LIMIT).
const LONGEST: Duration = Duration::from_millis(100);

/// The rest after a scan that took `cost`.
pub(super) fn after(cost: Duration) -> Duration {
    cost.saturating_mul(REST).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::progress::Answer;
    use crate::progress::tests::fake_host::Fake;
    use crate::progress::tests::questions::{ask, tracker};

    /// The clock stands still while a scan looks, so each costs nothing and the shortest rest is all that passes.
    #[tokio::test(start_paused = true)]
    async fn who_asks_about_a_volume_without_a_dd_waits_for_a_scan_and_the_rest_before_it() {
        const QUESTIONS: u32 = 50;
        let fake = Fake::new();
        let tracker = tracker(&fake);
        let begun = Instant::now();
        for _ in 0..QUESTIONS {
            // What is asked in the instant of a scan's beginning is answered by that one.
            tokio::time::advance(Duration::from_nanos(1)).await;
            assert_eq!(ask(&tracker).await, Answer::Percent(0));
        }
        assert_eq!(tracker.scans().await, u64::from(QUESTIONS));
        let passed = begun.elapsed();
        // Timers are rounded up to their next tick.
        assert!(passed >= SHORTEST * (QUESTIONS - 1), "{passed:?}");
        assert!(passed <= SHORTEST * 2 * QUESTIONS, "{passed:?}");
    }

    #[test]
    fn scans_rest_nine_times_as_long_as_they_take_within_bounds() {
        let micros = Duration::from_micros;
        for (cost, rest) in [
            (micros(0), SHORTEST),
            (micros(100), SHORTEST),
            (micros(200), SHORTEST),
            (micros(5_000), SHORTEST),
            (micros(108_000), LONGEST),
            (Duration::MAX, LONGEST),
        ] {
            assert_eq!(after(cost), rest, "{cost:?}");
        }
    }
}
