//! Settings read again while the daemon runs: what takes effect at once, and what takes a restart.
//!
//! Options that decide how a call is answered and how much is logged change at once. Options for
//! connections, queues and scans do not: they would take releasing the messages in hand, and a restart
//! is the way to do that which is proved to be safe.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{error, info, warn};

use super::systemd;
use crate::config::{self, Backend, Progress, Settings, Sources};
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
    /// Invalid settings are logged, and change nothing.
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
            // A backend that is gone keeps its settings until the restart.
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
    error!(cause, "the settings are invalid: keeping the previous ones");
}

/// The options, or their sections, that differ and are not taken up while the daemon runs.
fn after_restart(running: &Settings, fresh: &Settings) -> Vec<&'static str> {
    // All fields are named, so that whoever adds one decides here what a reload makes of it. The rest is either
    // in the policies, or not used by a running daemon.
    let Settings {
        brokers,
        rabbit,
        control_exchange,
        backends,
        progress,
        debug: _,
        volume_name_template: _,
        rpc_ping_enabled: _,
        host: _,
        files: _,
        cluster: _,
        rpc_response_timeout: _,
    } = fresh;
    let Progress {
        mode,
        consumer_priority,
        prefetch,
        scan_interval,
        proc_root,
        sys_root,
        dev_root,
        dd_users,
        state_file,
        metrics_listen,
        rpc_version: _,
        migration_mode: _,
        driver: _,
        unknown_progress: _,
    } = progress;
    let was = &running.progress;
    let addresses = |backends: &[Backend]| -> Vec<_> {
        let backends = backends.iter();
        backends
            .map(|backend| (backend.name.clone(), backend.address.clone()))
            .collect()
    };
    [
        (
            "transport_url, ssl_*, tls_verify",
            running.brokers != *brokers,
        ),
        ("[oslo_messaging_rabbit]", running.rabbit != *rabbit),
        (
            "control_exchange",
            running.control_exchange != *control_exchange,
        ),
        (
            "host, enabled_backends, backend_host",
            addresses(&running.backends) != addresses(backends),
        ),
        ("mode", was.mode != *mode),
        (
            "consumer_priority",
            was.consumer_priority != *consumer_priority,
        ),
        ("prefetch", was.prefetch != *prefetch),
        ("scan_interval", was.scan_interval != *scan_interval),
        ("proc_root", was.proc_root != *proc_root),
        ("sys_root", was.sys_root != *sys_root),
        ("dev_root", was.dev_root != *dev_root),
        ("dd_users", was.dd_users != *dd_users),
        ("state_file", was.state_file != *state_file),
        ("metrics_listen", was.metrics_listen != *metrics_listen),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::config::Mode;

    const BEFORE: [&str; 2] = [
        "[DEFAULT]\nhost = node\nenabled_backends = a, b\ntransport_url = rabbit://127.0.0.1\n",
        "[progress]\nstate_file =\n",
    ];

    fn sources(folder: &Path, general: &str, own: &str) -> Sources {
        let path = folder.join("test.conf");
        let text = format!("{}{general}\n{}{own}\n", BEFORE[0], BEFORE[1]);
        fs::write(&path, text).unwrap();
        Sources {
            config_files: vec![path],
            ..Sources::default()
        }
    }

    fn policies(settings: &Settings) -> Vec<LivePolicy> {
        let backends = settings.backends.iter();
        let policies = backends.map(|backend| Policy::of(settings, backend));
        policies.map(LivePolicy::new).collect()
    }

    /// Options in `[DEFAULT]` or a section of their own, options in `[progress]`, and what has to be restarted for.
    const CASES: &[(&str, &str, Option<&str>)] = &[
        (
            "host = other",
            "",
            Some("host, enabled_backends, backend_host"),
        ),
        (
            "enabled_backends = b",
            "",
            Some("host, enabled_backends, backend_host"),
        ),
        (
            "[a]\nbackend_host = x",
            "",
            Some("host, enabled_backends, backend_host"),
        ),
        ("control_exchange = x", "", Some("control_exchange")),
        (
            "transport_url = rabbit://127.0.0.2",
            "",
            Some("transport_url, ssl_*, tls_verify"),
        ),
        (
            "[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 7",
            "",
            Some("[oslo_messaging_rabbit]"),
        ),
        ("", "mode = standalone", Some("mode")),
        ("", "consumer_priority = 7", Some("consumer_priority")),
        ("", "prefetch = 7", Some("prefetch")),
        ("", "scan_interval = 7", Some("scan_interval")),
        ("", "proc_root = /x", Some("proc_root")),
        ("", "sys_root = /x", Some("sys_root")),
        ("", "dev_root = /x", Some("dev_root")),
        ("", "dd_users = 7", Some("dd_users")),
        ("", "state_file = /x/y", Some("state_file")),
        ("", "metrics_listen = 127.0.0.1:7", Some("metrics_listen")),
        ("volume_name_template = x-%s", "", None),
        ("rpc_ping_enabled = true", "", None),
        (
            "[b]\nvolume_driver = cinder.volume.drivers.rbd.RBDDriver",
            "",
            None,
        ),
        ("", "rpc_version = 3.5", None),
        ("", "unknown_progress = x", None),
        ("", "migration_mode = DRIVER_BASED", None),
        ("", "driver_command = x", None),
        ("", "[progress:b]\nmigration_mode = HOST_BASED", None),
        ("", "driver_command = x\ndriver_timeout = 7", None),
        (
            "[oslo_messaging_rabbit]\nssl = true",
            "tls_verify = false",
            Some("transport_url, ssl_*, tls_verify"),
        ),
    ];

    #[test]
    fn each_option_changes_an_answer_at_once_or_is_said_to_take_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let load = |general, own| config::load(&sources(folder.path(), general, own)).unwrap();
        let before = load("", "");
        for &(general, own, said) in CASES {
            let after = load(general, own);
            let names = after_restart(&before, &after);
            assert_eq!(names, Vec::from_iter(said), "{general}{own}");
            let differs = |(one, other): (&Backend, &Backend)| {
                Policy::of(&before, one) != Policy::of(&after, other)
            };
            let mut pairs = before.backends.iter().zip(&after.backends);
            assert!(said.is_some() || pairs.any(differs), "{general}{own}");
        }
    }

    /// A test of the settings proves that the file that is shipped has every option of the daemon's own.
    #[test]
    fn every_option_of_the_daemons_own_is_among_the_cases() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/cinder-progress.conf");
        let text = fs::read_to_string(file).unwrap();
        let shown = text
            .lines()
            .filter_map(|line| line.strip_prefix('#')?.split_once(" = "));
        let options = Vec::from_iter(shown.filter(|(option, _)| !option.contains(' ')));
        assert!(options.len() > 15);
        for (option, _) in options {
            let assigned = format!("{option} = ");
            let mut lines = CASES.iter().flat_map(|(_, own, _)| own.lines());
            let found = lines.any(|line| line.starts_with(&assigned));
            assert!(found, "no case for {option}");
        }
    }

    #[tokio::test]
    async fn what_may_change_does_and_a_mistake_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let before = sources(folder.path(), "", "");
        let debug = Arc::new(AtomicUsize::new(0));
        let told = Arc::clone(&debug);
        let reload = Reload {
            sources: before.clone(),
            set_debug: Box::new(move |on| told.store(usize::from(on), Ordering::Relaxed)),
            good: Arc::default(),
        };
        let mut running = config::load(&before).unwrap();
        let policies = policies(&running);
        let own = "mode = standalone\nunknown_progress = x\n[progress:b]\ndriver_command = y";
        sources(folder.path(), "debug = true", own);
        reload.again(&mut running, &policies).await;
        assert!(reload.good.load(Ordering::Relaxed) && running.debug);
        assert_eq!(debug.load(Ordering::Relaxed), 1);
        let [a, b] = [0, 1].map(|at: usize| policies[at].now());
        assert_eq!((&*a.unknown_progress, &*b.unknown_progress), ("x", "x"));
        assert_eq!((a.driver.is_some(), b.driver.is_some()), (false, true));
        assert_eq!(a.mode, Mode::Sidecar, "it takes a restart");

        sources(folder.path(), "debug = perhaps", "unknown_progress = z");
        reload.again(&mut running, &policies).await;
        assert!(!reload.good.load(Ordering::Relaxed) && running.debug);
        assert_eq!(policies[0].now(), a);
        // A backend that is gone stays as it was.
        sources(
            folder.path(),
            "enabled_backends = b",
            "unknown_progress = z",
        );
        reload.again(&mut running, &policies).await;
        assert_eq!(policies[0].now(), a);
        assert_eq!(policies[1].now().unknown_progress, "z");
    }
}
