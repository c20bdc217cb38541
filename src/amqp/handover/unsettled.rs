//! What would be lost or doubled if the daemon ended at this moment.
//!
//! Where a queue has no leader in reach, our channel carries what the next leader has to get: a publish whose
//! original is acknowledged, or the acknowledgement of what is published. A message that T has returned exists in our
//! hands alone.

use tokio::sync::watch;

/// Counts it, for all backends. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Unsettled(watch::Sender<usize>);

/// One thing that is not settled, until this is dropped.
#[derive(Debug)]
pub struct UnsettledGuard(watch::Sender<usize>);

impl Unsettled {
    /// From now on one more thing is not settled.
    pub fn begin(&self) -> UnsettledGuard {
        self.0.send_modify(|count| *count += 1);
        UnsettledGuard(self.0.clone())
    }

    /// Whether everything is settled.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        *self.0.borrow() == 0
    }

    /// Returns as soon as everything is settled. Cancel-safe.
    pub async fn settled(&self) {
        // The sender is `self`: it cannot be gone.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for UnsettledGuard {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn all_must_be_settled() {
        let unsettled = Unsettled::default();
        assert!(unsettled.is_settled() && unsettled.settled().now_or_never().is_some());
        let one = unsettled.begin();
        let other = unsettled.clone().begin();
        let settled = unsettled.settled();
        tokio::pin!(settled);
        assert!(!unsettled.is_settled() && settled.as_mut().now_or_never().is_none());
        drop(one);
        assert!(settled.as_mut().now_or_never().is_none());
        drop(other);
        settled.await;
    }
}
