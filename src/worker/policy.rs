//! The rules by which the calls of a backend are answered: the settings that may change while the daemon runs.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::config::{Backend, Driver, MigrationMode, Mode, Settings};
use crate::rpc::dispatcher::Api;
use crate::rpc::version::Version;

/// The settings of the answers of one backend.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Beside a cinder-volume, or alone.
    pub mode: Mode,
    /// The RPC interface that is served.
    pub api: Api,
    /// How copies are made, unless the call has a `migration_mode`.
    pub migration_mode: MigrationMode,
    /// The command that reports copies made by the storage.
    pub driver: Option<Driver>,
    /// Whether copies of this backend's volumes may have no open file on the node.
    pub without_devices: bool,
    /// `volume_name_template`: a name with `%s` in the place of the id.
    pub volume_name_template: String,
    /// The answer when the progress is unknown.
    pub unknown_progress: String,
}

impl Policy {
    /// The policy of `backend`.
    #[must_use]
    pub fn of(settings: &Settings, backend: &Backend) -> Self {
        let (major, minor) = settings.progress.rpc_version;
        Self {
            mode: settings.progress.mode,
            api: Api {
                version: Version::new(major, minor),
                ping_enabled: settings.rpc_ping_enabled,
            },
            migration_mode: backend.migration_mode.clone(),
            driver: backend.driver.clone(),
            without_devices: backend.without_devices,
            volume_name_template: settings.volume_name_template.clone(),
            unknown_progress: settings.progress.unknown_progress.clone(),
        }
    }
}

/// A policy that may change from one call to the next. Cheap to clone. All clones share one policy.
#[derive(Debug, Clone)]
pub struct LivePolicy(Arc<RwLock<Arc<Policy>>>);

impl LivePolicy {
    /// A live policy, at first `policy`.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(policy))))
    }

    /// The present policy.
    #[must_use]
    pub fn now(&self) -> Arc<Policy> {
        Arc::clone(&self.0.read())
    }

    /// Replaces the policy, from the next call on.
    pub fn change(&self, policy: Policy) {
        *self.0.write() = Arc::new(policy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    fn settings() -> Settings {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("test.conf");
        let text = "[DEFAULT]\nenabled_backends = a, b\nvolume_name_template = x-%s\nrpc_ping_enabled = true\n\
                    [a]\nvolume_driver = cinder.volume.drivers.rbd.RBDDriver\n\
                    [progress]\nmode = direct\nrpc_version = 3.5\nunknown_progress = ?\n\
                    [progress:b]\nmigration_mode = FILE_BASED\ndriver_command = ask\n";
        std::fs::write(&file, text).unwrap();
        let sources = Sources {
            config_files: vec![file],
            ..Sources::default()
        };
        load(&sources).unwrap()
    }

    #[test]
    fn a_policy_has_the_common_settings_and_those_of_its_backend() {
        let settings = settings();
        let [a, b] = [0, 1].map(|at: usize| Policy::of(&settings, &settings.backends[at]));
        for policy in [&a, &b] {
            assert_eq!(policy.mode, Mode::Direct);
            assert_eq!(policy.api.version, Version::new(3, 5));
            assert!(policy.api.ping_enabled);
            assert_eq!(policy.volume_name_template, "x-%s");
            assert_eq!(policy.unknown_progress, "?");
        }
        assert_eq!(a.migration_mode, MigrationMode::Auto);
        assert_eq!(b.migration_mode, MigrationMode::FileBased);
        assert_eq!((a.driver.is_some(), b.driver.is_some()), (false, true));
        assert_eq!((a.without_devices, b.without_devices), (true, false));
    }

    #[test]
    fn a_change_reaches_all_clones_and_no_answer_that_has_begun() {
        let settings = settings();
        let [a, b] = [0, 1].map(|at: usize| Policy::of(&settings, &settings.backends[at]));
        let live = LivePolicy::new(a.clone());
        let clone = live.clone();
        let begun = clone.now();
        live.change(b.clone());
        assert_eq!((&*begun, &*clone.now()), (&a, &b));
    }
}
