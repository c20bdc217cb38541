//! How long scans rest between each other.

use std::time::Duration;

/// The rest between two scans. A scan finds a process whose id was given out before its folder was there only if the
/// folder is there at the next scan: with less time between the two a dd could be missed for minutes. Callers who ask
/// meanwhile share the next scan.
pub(super) const SCAN_REST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::progress::Answer;
    use crate::progress::tests::fake_host::Fake;
    use crate::progress::tests::questions::{ask, tracker};

    /// The clock stands still while a scan looks, so each costs nothing and the rest is all that passes.
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
        assert!(passed >= SCAN_REST * (QUESTIONS - 1), "{passed:?}");
        assert!(passed <= SCAN_REST * 2 * QUESTIONS, "{passed:?}");
    }
}
