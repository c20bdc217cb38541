//! Settings read again while the daemon runs: what takes effect at once, and what takes a restart.
//!
//! What decides how a call is answered and how much is logged changes at once. What shapes connections,
//! queues and looks does not: changing it would mean to let go of messages in hand, and a restart does
//! that in the one way that is proved to be safe.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{error, info, warn};

use super::systemd;
use crate::config::{self, Settings, Sources};
use crate::error_chain::chain;
use crate::worker::policy::{LivePolicy, Policy};

/// What it takes to read the settings again.
pub struct Reload {
    /// Where they are read from.
    pub sources: Sources,
    /// Turns more log lines on or off.
    pub set_debug: Box<dyn Fn(bool) + Send>,
    /// Whether the last time went well.
    pub good: Arc<AtomicBool>,
}

impl Reload {
    /// Reads them again and puts into `running`, the settings the daemon runs with, and `policies`, those of
    /// its backends in their order, what may change.
    ///
    /// Settings that are no good are said in the log, and change nothing.
    pub async fn again(&self, running: &mut Settings, policies: &[LivePolicy]) {
        systemd::reloading().await;
        let sources = self.sources.clone();
        let read = tokio::task::spawn_blocking(move || config::load(&sources)).await;
        let good = match read {
            Ok(Ok(fresh)) => {
                self.apply(running, fresh, policies);
                true
            }
            Ok(Err(error)) => {
                refused(&chain(&error));
                false
            }
            Err(broken) => {
                refused(&broken.to_string());
                false
            }
        };
        self.good.store(good, Ordering::Relaxed);
        systemd::ready().await;
    }

    fn apply(&self, running: &mut Settings, fresh: Settings, policies: &[LivePolicy]) {
        let after_restart = after_restart(running, &fresh);
        let mut changed = running.debug != fresh.debug;
        running.debug = fresh.debug;
        (self.set_debug)(fresh.debug);
        for (backend, policy) in running.backends.iter().zip(policies) {
            let same = fresh.backends.iter().find(|b| b.name == backend.name);
            // Of a backend that is not there any more nothing is known; it goes with the restart.
            let Some(same) = same else { continue };
            let next = Policy {
                mode: running.progress.mode,
                ..Policy::of(&fresh, same)
            };
            if next != *policy.now() {
                changed = true;
                policy.change(next);
            }
        }
        if after_restart.is_empty() {
            info!(changed, "settings read again");
        } else {
            warn!(
                changed,
                options = after_restart.join(", "),
                "settings read again: restart the daemon to take up these options"
            );
        }
    }
}

fn refused(cause: &str) {
    error!(
        cause,
        "the settings are no good: keeping the previous settings"
    );
}

/// The options, or their sections, that differ and are not taken up while the daemon runs.
fn after_restart(running: &Settings, fresh: &Settings) -> Vec<&'static str> {
    let (a, b) = (&running.progress, &fresh.progress);
    let addresses = |settings: &Settings| {
        let backends = settings.backends.iter();
        backends
            .map(|backend| (backend.name.clone(), backend.address.clone()))
            .collect::<Vec<_>>()
    };
    [
        (
            "transport_url, ssl_*, tls_verify",
            running.brokers != fresh.brokers,
        ),
        ("[oslo_messaging_rabbit]", running.rabbit != fresh.rabbit),
        (
            "control_exchange",
            running.control_exchange != fresh.control_exchange,
        ),
        (
            "host, enabled_backends, backend_host",
            addresses(running) != addresses(fresh),
        ),
        ("mode", a.mode != b.mode),
        (
            "consumer_priority",
            a.consumer_priority != b.consumer_priority,
        ),
        ("prefetch", a.prefetch != b.prefetch),
        ("scan_interval", a.scan_interval != b.scan_interval),
        ("proc_root", a.proc_root != b.proc_root),
        ("sys_root", a.sys_root != b.sys_root),
        ("dev_root", a.dev_root != b.dev_root),
        ("dd_users", a.dd_users != b.dd_users),
        ("state_file", a.state_file != b.state_file),
        ("metrics_listen", a.metrics_listen != b.metrics_listen),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}
