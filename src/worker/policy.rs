//! By what rules the calls of a backend are answered: the part of the settings that may change while the
//! daemon runs.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::config::{Backend, Driver, MigrationMode, Mode, Settings};
use crate::rpc::dispatcher::Api;
use crate::rpc::version::Version;

/// What is the same for all calls of one backend.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Beside a cinder-volume, or alone.
    pub mode: Mode,
    /// What is served.
    pub api: Api,
    /// How copies are made here unless the call says otherwise.
    pub migration_mode: MigrationMode,
    /// What is asked about copies the storage makes itself.
    pub driver: Option<Driver>,
    /// Whether a copy of this backend's volumes may have no file open on the node.
    pub without_devices: bool,
    /// `volume_name_template`: a name with `%s` in the place of the id.
    pub volume_name_template: String,
    /// The answer when nothing can be known.
    pub unknown_progress: String,
}

impl Policy {
    /// That of one backend.
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

/// A policy that may change from one call to the next. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct LivePolicy(Arc<RwLock<Arc<Policy>>>);

impl LivePolicy {
    /// Begins with `policy`.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(policy))))
    }

    /// What holds now.
    #[must_use]
    pub fn now(&self) -> Arc<Policy> {
        Arc::clone(&self.0.read())
    }

    /// Holds from the next call on.
    pub fn change(&self, policy: Policy) {
        *self.0.write() = Arc::new(policy);
    }
}
