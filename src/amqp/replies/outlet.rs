//! Tracks whether replies can be sent; a call taken while they cannot gets no answer.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

/// How long replies may wait for a connection before calls are left to cinder-volume. A broken connection comes back
/// sooner, and a caller waits for a minute.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether replies can be sent, and since when they cannot. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Outlet(Arc<Mutex<OutletState>>);

#[derive(Debug)]
struct OutletState {
    /// When it was last known that replies leave, and at first when it was made.
    known: Instant,
    /// Since when there is a connection.
    open: Option<Instant>,
    /// The broker has confirmed something on this connection.
    confirmed: bool,
    /// The connection before this one ended soon, and nothing was confirmed on it.
    doubted: bool,
}

impl OutletState {
    /// Whether this connection is known to carry replies. Where nothing is to be sent nothing can be confirmed: then it
    /// is enough that the connection lasts.
    fn is_proven(&self) -> bool {
        self.open
            .is_some_and(|since| self.confirmed || since.elapsed() > PATIENCE)
    }
}

impl Outlet {
    /// Closed as of now.
    pub(super) fn closed() -> Self {
        Self(Arc::new(Mutex::new(OutletState {
            known: Instant::now(),
            open: None,
            confirmed: false,
            doubted: false,
        })))
    }

    /// Open until what is returned is dropped.
    pub(super) fn open(&self) -> Open {
        let mut state = self.lock();
        state.open = Some(Instant::now());
        state.confirmed = false;
        Open(self.clone())
    }

    /// Whether replies could not be sent for longer than a reconnection takes. Connections that come and go and on
    /// which nothing is confirmed do not count.
    pub(super) fn is_lost(&self) -> bool {
        let state = self.lock();
        let trusted = state.open.is_some() && !state.doubted;
        !trusted && !state.is_proven() && state.known.elapsed() > PATIENCE
    }

    fn lock(&self) -> MutexGuard<'_, OutletState> {
        self.0.lock()
    }
}

/// Replies can be sent while this exists.
pub(super) struct Open(Outlet);

impl Open {
    /// The broker has confirmed a reply.
    pub(super) fn confirmed(&self) {
        let mut state = self.0.lock();
        state.confirmed = true;
        state.doubted = false;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.doubted = !state.is_proven();
        if !state.doubted {
            state.known = Instant::now();
        }
        state.open = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn it_is_lost_when_it_was_closed_for_some_seconds() {
        let outlet = Outlet::closed();
        let seen = outlet.clone();
        tokio::time::advance(PATIENCE).await;
        assert!(!seen.is_lost(), "it may still be on its way");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(seen.is_lost());
        let open = outlet.open();
        assert!(!seen.is_lost());
        tokio::time::advance(PATIENCE * 100).await;
        assert!(!seen.is_lost());
        drop(open);
        assert!(!seen.is_lost());
        tokio::time::advance(PATIENCE * 2).await;
        assert!(seen.is_lost());
    }

    /// One that came, stayed for a moment and confirmed nothing.
    async fn flap(outlet: &Outlet) {
        let open = outlet.open();
        tokio::time::advance(MOMENT).await;
        drop(open);
        tokio::time::advance(MOMENT).await;
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_fail_again_at_once_do_not_start_the_time_anew() {
        let outlet = Outlet::closed();
        for _ in 0..3 {
            flap(&outlet).await;
        }
        assert!(outlet.is_lost());
        // The next one is believed when something leaves on it, and only then.
        let open = outlet.open();
        assert!(outlet.is_lost());
        open.confirmed();
        assert!(!outlet.is_lost());
        drop(open);
        tokio::time::advance(PATIENCE).await;
        assert!(!outlet.is_lost());
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_is_nothing_to_send_it_is_enough_that_a_connection_lasts() {
        let outlet = Outlet::closed();
        for _ in 0..3 {
            flap(&outlet).await;
        }
        let open = outlet.open();
        tokio::time::advance(PATIENCE).await;
        assert!(outlet.is_lost());
        tokio::time::advance(MOMENT).await;
        assert!(!outlet.is_lost());
        drop(open);
        assert!(!outlet.is_lost());
        assert!(!outlet.lock().doubted);
    }
}
