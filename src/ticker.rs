//! Waiting in step: all that wait for the same period wake up in the same instant.
//!
//! An idle daemon has a few loops that check something each second or two. Waking the processor costs
//! more than the checks, so all are woken together.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Returns when the next multiple of `period`, counted from one instant for all, is reached: never
/// at once, and never later than `period` from now. Cancel-safe.
pub async fn tick(period: Duration) {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let now = Instant::now();
    let since = now.saturating_duration_since(*ORIGIN.get_or_init(|| now));
    let past = nanoseconds(since)
        .checked_rem(nanoseconds(period))
        .unwrap_or(0);
    sleep(period.saturating_sub(Duration::from_nanos(past))).await;
}

/// Enough for six centuries.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_who_begin_at_different_times_end_together() {
        const PERIOD: Duration = Duration::from_secs(2);
        let begun = Instant::now();
        let late = async {
            sleep(PERIOD / 4).await;
            tick(PERIOD).await;
            Instant::now()
        };
        let early = async {
            tick(PERIOD).await;
            Instant::now()
        };
        let (early, late) = tokio::join!(early, late);
        assert!(early > begun && early <= begun + PERIOD, "{early:?}");
        let apart = late - early;
        assert!(apart == Duration::ZERO || apart == PERIOD, "{apart:?}");
        tick(Duration::ZERO).await;
    }
}
