//! The services of cinder-volume on this node and the names of their queues.

use super::inputs::Inputs;
use super::options;
use super::progress::{Driver, MigrationMode, Progress, driver_of, migration_mode};
use crate::config::ConfigError;
use crate::config::oslo::values;

/// The option of a backend's own section that names the class of its driver.
const VOLUME_DRIVER: &str = "volume_driver";

/// The module of the driver for Ceph (`cinder.volume.drivers.rbd.RBDDriver`).
const RBD: &str = "drivers.rbd.";

/// The topic of cinder-volume.
const TOPIC: &str = "cinder-volume";

/// The daemon's own topic.
const OWN_TOPIC: &str = "cinder-progress";

/// The longest name in AMQP, in bytes: of a queue, an exchange, a routing key or a virtual host (`shortstr`).
pub(in crate::config) const LONGEST_NAME: usize = 255;

/// One cinder-volume service: a backend, or the only one where `enabled_backends` is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its section in cinder.conf; `None` where `enabled_backends` is empty.
    pub name: Option<String>,
    /// `backend_host` of its section, else `host`.
    pub host: String,
    /// The service's address: that of `<host>@<backend>`, or of `<host>` without a name.
    pub address: Address,
    /// The daemon's own address for this service, in every mode.
    pub own: Address,
    /// How this backend migrates. Source: `[progress:<backend>] migration_mode`, else that of
    /// `[progress]`.
    pub migration_mode: MigrationMode,
    /// The command that reports copies made by the storage of this backend. Source: `[progress:<backend>]
    /// driver_command` and `driver_timeout`, each else that of `[progress]`.
    pub driver: Option<Driver>,
    /// Whether cinder-volume opens its volumes through a library and not as devices. A copy between two such backends
    /// has no file open. Source: `volume_driver` of the backend's section. True only for Ceph's RBD.
    pub without_devices: bool,
}

/// The names on the broker of one cinder-volume service, or of the daemon for that service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Topic queue, and its routing key: `cinder-volume.<service>`, for the daemon `cinder-progress.<service>`.
    pub topic: String,
    /// Server queue, which receives the progress call, and its routing key: the topic, a dot and the service's host.
    pub server_queue: String,
    /// Fanout exchange: the topic and `_fanout`.
    pub fanout_exchange: String,
}

impl Address {
    /// The address of the service `<host>@<backend>`, or `<host>` without backends.
    #[must_use]
    pub fn of(service: &str) -> Self {
        Self::under(TOPIC, service)
    }

    /// The daemon's address for the service `<host>@<backend>`, or `<host>` without backends.
    #[must_use]
    pub fn of_daemon(service: &str) -> Self {
        Self::under(OWN_TOPIC, service)
    }

    /// The daemon's address for the service of a volume with `host` `<host>@<backend>#<pool>`.
    #[must_use]
    pub fn of_daemon_for_volume_host(host: &str) -> Self {
        Self::of_daemon(without_pool(host))
    }

    /// Checks that all names made from this address fit into AMQP. The longest are that of the claim on the server
    /// queue (`cinder-progress.` before the queue's name) and that of a private queue of the fanout (32 digits after
    /// the exchange's name).
    ///
    /// # Errors
    ///
    /// What would be right.
    pub fn check(&self) -> Result<(), String> {
        let claim = OWN_TOPIC.len() + 1 + self.server_queue.len();
        let private = self.fanout_exchange.len() + 1 + 32;
        let excess = claim.max(private).saturating_sub(LONGEST_NAME);
        if excess == 0 {
            return Ok(());
        }
        Err(format!(
            "a host and a backend whose names are shorter by {excess} bytes in all: with what is added to it, \
             the name of a queue ends at {LONGEST_NAME} bytes in AMQP"
        ))
    }

    fn under(topic: &str, service: &str) -> Self {
        let topic = format!("{topic}.{service}");
        Self {
            server_queue: format!("{topic}.{}", bare_host(service)),
            fanout_exchange: format!("{topic}_fanout"),
            topic,
        }
    }

    /// The address of the service of a volume with `host` `<host>@<backend>#<pool>`. The pool is no part of the
    /// address (`_get_cctxt` in `cinder/volume/rpcapi.py`).
    #[must_use]
    pub fn of_volume_host(host: &str) -> Self {
        Self::of(without_pool(host))
    }
}

fn without_pool(host: &str) -> &str {
    host.split('#').next().unwrap_or(host)
}

/// Reads `enabled_backends` and the section of each backend. Never empty.
pub(in crate::config) fn read(
    inputs: &Inputs,
    node: &str,
    defaults: &Progress,
) -> Result<Vec<Backend>, ConfigError> {
    let mut names = inputs.read(&options::ENABLED_BACKENDS, values::list)?;
    // A backend that is named twice has one set of queues.
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));

    if names.is_empty() {
        let mut only = backend(None, node, defaults.migration_mode.clone());
        let named = only.address.check();
        named.map_err(|expected| inputs.mistake(&options::HOST, expected))?;
        only.driver.clone_from(&defaults.driver);
        return Ok(vec![only]);
    }
    names
        .into_iter()
        .map(|name| {
            let section = crate::config::oslo::fragments::normal_group(&name);
            let address = |host: &str| Address::of(&format!("{host}@{name}"));
            let host = inputs
                .read_in(&section, options::BACKEND_HOST, |text| {
                    address(text).check()?;
                    values::text(text)
                })?
                .filter(|host| !host.is_empty());
            if host.is_none() {
                let named = address(node).check();
                named.map_err(|expected| inputs.mistake(&options::HOST, expected))?;
            }
            let own = format!("{}{section}", options::PROGRESS_OF_BACKEND);
            let mode = inputs.read_in(&own, options::MIGRATION_MODE.name, migration_mode)?;
            let mut backend = backend(
                Some(name),
                host.as_deref().unwrap_or(node),
                mode.unwrap_or_else(|| defaults.migration_mode.clone()),
            );
            backend.driver = driver_of(inputs, &own)?;
            let volume_driver = inputs.read_in(&section, VOLUME_DRIVER, values::text)?;
            backend.without_devices = volume_driver.is_some_and(|driver| driver.contains(RBD));
            Ok(backend)
        })
        .collect()
}

fn backend(name: Option<String>, host: &str, migration_mode: MigrationMode) -> Backend {
    let service = match &name {
        Some(name) => format!("{host}@{name}"),
        None => host.to_owned(),
    };
    Backend {
        name,
        host: host.to_owned(),
        address: Address::of(&service),
        own: Address::of_daemon(&service),
        migration_mode,
        driver: None,
        without_devices: false,
    }
}

/// The name of the server. cinder makes it from the name of the service without pool and backend. An operator may have
/// written these into `host`: they are cut off as well.
fn bare_host(host: &str) -> &str {
    host.split(['#', '@']).next().unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::{Address, MigrationMode, backend};

    #[test]
    fn queues_are_named_as_on_a_real_broker() {
        let lvm1 = backend(Some("lvm1".into()), "storage1", MigrationMode::Auto);
        assert_eq!(lvm1.address.topic, "cinder-volume.storage1@lvm1");
        assert_eq!(
            lvm1.address.server_queue,
            "cinder-volume.storage1@lvm1.storage1"
        );
        assert_eq!(
            lvm1.address.fanout_exchange,
            "cinder-volume.storage1@lvm1_fanout"
        );
        assert_eq!(lvm1.own.topic, "cinder-progress.storage1@lvm1");
        assert_eq!(
            lvm1.own.server_queue,
            "cinder-progress.storage1@lvm1.storage1"
        );
    }

    #[test]
    fn a_pool_is_no_part_of_an_address() {
        let address = Address::of_volume_host("storage1@lvm1#pool");
        assert_eq!(address, Address::of("storage1@lvm1"));
        assert_eq!(address.server_queue, "cinder-volume.storage1@lvm1.storage1");
    }

    #[test]
    fn without_backends_the_host_stands_alone() {
        let only = backend(None, "storage1", MigrationMode::Auto);
        assert_eq!(only.address.topic, "cinder-volume.storage1");
        assert_eq!(only.address.server_queue, "cinder-volume.storage1.storage1");
    }

    #[test]
    fn a_backend_written_into_host_is_not_part_of_the_server() {
        let only = backend(None, "rbd:volumes@ceph", MigrationMode::Auto);
        assert_eq!(
            only.address.server_queue,
            "cinder-volume.rbd:volumes@ceph.rbd:volumes"
        );
    }
}
