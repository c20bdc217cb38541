//! How long scans rest between each other.

use std::time::Duration;

/// How many times as long as a scan took the next one is not begun: scans take a tenth of the time at most,
/// however many ask about volumes that have no copy.
const REST: u32 = 9;

/// The shortest rest: tokio's timers do not tell less than a millisecond apart (`tokio::time::sleep`), and what
/// is asked within it is answered by one scan. A new dd is not missed however soon one scan follows the other, by what
/// `host_based/scan/cursor.rs` does.
const SHORTEST: Duration = Duration::from_millis(1);

/// The longest rest: after a list of all processes where there are tens of thousands. A scan that takes longer has mostly
/// waited for a read that hangs, or reads about all of them for the first time: the next scan is a short one. A caller
/// waits for a scan that goes on, the rest and a scan of its own, all within its [`CALL_LIMIT`](super::CALL_LIMIT).
const LONGEST: Duration = Duration::from_millis(300);

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
            (micros(200), micros(1_800)),
            (micros(30_000), micros(270_000)),
            (micros(108_000), LONGEST),
            (Duration::MAX, LONGEST),
        ] {
            assert_eq!(after(cost), rest, "{cost:?}");
        }
    }
}
