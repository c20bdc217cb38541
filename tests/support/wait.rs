//! Waiting for a condition.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// Long enough for a loaded machine; a test that fails may take this long, one that passes does not.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The outcome of `future`, or a panic that names `what` when it takes longer than [`PATIENCE`].
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Asks again and again until there is an answer, at most for [`PATIENCE`].
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}
