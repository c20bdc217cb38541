//! Metrics for Prometheus, and the daemon's health, over HTTP.
//!
//! Nothing is counted here. The rooms below count where things happen, and name their metrics there. A scrape reads
//! their numbers and the last scan's result; it starts no scan and waits for nothing. The names are those of
//! `docs/metrics.md`.

/// Health: a status code for machines, a line for people.
mod health;
/// The HTTP server.
mod http;
/// The numbers, in Prometheus's text format.
mod text;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use crate::amqp::metrics::Counters;
use crate::liveness::Liveness;
use crate::progress::Tracker;
use crate::worker::outcomes::Calls;
use crate::worker::policy::LivePolicy;

pub use http::{bind, serve};

/// What is shown of a daemon.
#[derive(Debug)]
pub struct Watched {
    /// When it was started.
    pub started: SystemTime,
    /// What happened on the broker's side.
    pub counters: Arc<Counters>,
    /// What became of calls.
    pub calls: Arc<Calls>,
    /// The copies on this node.
    pub tracker: Tracker,
    /// What each task of it is doing.
    pub liveness: Liveness,
    /// The server queue of each backend; none in mode direct.
    pub queues: Vec<String>,
    /// Our own topic for each backend.
    pub own_topics: Vec<String>,
    /// The policy of each backend. All of them name volumes in the same way.
    pub policies: Vec<LivePolicy>,
    /// Whether the settings were valid when they were last read.
    pub settings_good: Arc<AtomicBool>,
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::progress::Roots;

    /// A daemon in mode sidecar with one queue, without tasks.
    pub(super) fn watched() -> Watched {
        Watched {
            started: UNIX_EPOCH + Duration::from_secs(7),
            counters: Arc::new(Counters::default()),
            calls: Arc::new(Calls::default()),
            tracker: Tracker::new(Roots::default(), Duration::from_secs(1)),
            liveness: Liveness::new(Duration::from_secs(1)),
            queues: vec!["q".to_owned()],
            own_topics: vec!["t".to_owned()],
            policies: Vec::new(),
            settings_good: Arc::default(),
        }
    }
}
