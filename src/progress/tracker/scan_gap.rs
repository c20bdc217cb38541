//! How long scans rest between each other.

use std::time::Duration;

use tokio::time::Instant;

/// How many times as long as a scan took the next one is not begun: scans take a tenth of the time at most,
/// however many ask about volumes that have no copy.
const REST: u32 = 9;

/// The shortest rest; what is asked within it is answered by one scan. A new dd is not missed however soon one scan
/// follows the other, by what `host_based/scan/cursor.rs` does.
const SHORTEST: Duration = Duration::from_millis(2);

/// The longest rest: after a list of all processes where there are tens of thousands. A scan that takes longer has
/// mostly waited for a read that hangs, or reads about all of them for the first time: the next scan is a short one.
/// A caller waits for a scan that goes on, the rest and a scan of its own, all within its
/// [`CALL_LIMIT`](super::CALL_LIMIT).
const LONGEST: Duration = Duration::from_millis(300);

/// How late tokio's timers ring on average: they count whole milliseconds, and so does the kernel's wait below them.
const LATENESS: Duration = Duration::from_millis(1);

/// When the next scan may begin.
#[derive(Debug, Default)]
pub(super) struct ScanGap {
    not_before: Option<Instant>,
}

impl ScanGap {
    /// Waits until the next scan may begin, or a little less: the rest after that one makes up for it.
    pub(super) async fn rest(&self) {
        if let Some(ring) = self.not_before.and_then(|then| then.checked_sub(LATENESS))
            && Instant::now() < ring
        {
            tokio::time::sleep_until(ring).await;
        }
    }

    /// A scan has begun then and taken so long.
    pub(super) fn scanned(&mut self, begun: Instant, cost: Duration) {
        let due = self.not_before.map_or(begun, |then| then.max(begun));
        self.not_before = Some(due + cost + after(cost));
    }
}

/// The rest after a scan that took `cost`.
fn after(cost: Duration) -> Duration {
    cost.saturating_mul(REST).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
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
        assert!(
            passed + LATENESS >= SHORTEST * (QUESTIONS - 1),
            "{passed:?}"
        );
        assert!(passed <= SHORTEST * QUESTIONS * 3 / 2, "{passed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn scans_take_a_tenth_of_the_time_however_timers_ring() {
        for (cost, lateness) in [(300, 0), (300, 700), (300, 1_700), (20_000, 0)] {
            let (cost, lateness) = (Duration::from_micros(cost), Duration::from_micros(lateness));
            let mut gap = ScanGap::default();
            let begun = Instant::now();
            for _ in 0..100 {
                gap.rest().await;
                tokio::time::advance(lateness).await;
                let begun = Instant::now();
                tokio::time::advance(cost).await;
                gap.scanned(begun, cost);
            }
            gap.rest().await;
            let passed = begun.elapsed();
            assert!(passed + LATENESS >= cost * 1_000, "{passed:?}");
            assert!(
                passed <= (cost * 10 + lateness + LATENESS) * 100,
                "{passed:?}"
            );
        }
    }

    #[test]
    fn scans_rest_nine_times_as_long_as_they_take_within_bounds() {
        let micros = Duration::from_micros;
        for (cost, rest) in [
            (micros(0), SHORTEST),
            (micros(100), SHORTEST),
            (micros(300), micros(2_700)),
            (micros(30_000), micros(270_000)),
            (micros(108_000), LONGEST),
            (Duration::MAX, LONGEST),
        ] {
            assert_eq!(after(cost), rest, "{cost:?}");
        }
    }
}
