//! Whether replies leave: a call that is taken while they do not leaves its caller without a word.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long replies may wait for a connection before calls are left to others. A broken one comes back sooner, and a
/// caller waits for a minute.
const PATIENCE: Duration = Duration::from_secs(5);

/// Since when no reply leaves; `None` while they do. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Outlet(Arc<Mutex<Option<Instant>>>);

impl Outlet {
    /// Closed as of now.
    pub(super) fn closed() -> Self {
        Self(Arc::new(Mutex::new(Some(Instant::now()))))
    }

    /// Open until what is returned is dropped.
    pub(super) fn open(&self) -> Open {
        *self.lock() = None;
        Open(self.clone())
    }

    /// Whether it has been closed for longer than it takes to come back.
    pub(super) fn is_lost(&self) -> bool {
        self.lock().is_some_and(|since| since.elapsed() > PATIENCE)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Replies leave while this is there.
pub(super) struct Open(Outlet);

impl Drop for Open {
    fn drop(&mut self) {
        *self.0.lock() = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_lost_when_it_was_closed_for_some_seconds() {
        let outlet = Outlet::closed();
        let seen = outlet.clone();
        tokio::time::advance(PATIENCE).await;
        assert!(!seen.is_lost(), "it may still be on its way");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(seen.is_lost());
        let open = outlet.open();
        tokio::time::advance(PATIENCE * 100).await;
        assert!(!seen.is_lost());
        drop(open);
        assert!(!seen.is_lost());
        tokio::time::advance(PATIENCE * 2).await;
        assert!(seen.is_lost());
    }
}
