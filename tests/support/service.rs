//! Names on the broker, and names that no other test has.

use uuid::Uuid;

/// A cinder-volume service, and what it is called on the broker.
#[derive(Clone, Debug)]
pub struct Service {
    /// `host` of its configuration.
    pub host: String,
    /// The one of `enabled_backends`, if there is any.
    pub backend: Option<String>,
}

impl Service {
    /// One that no other test uses, with a backend.
    pub fn unique() -> Self {
        Self {
            host: unique_name("node"),
            backend: Some("lvm".into()),
        }
    }

    /// `host@backend`, or `host` alone.
    pub fn name(&self) -> String {
        match &self.backend {
            Some(backend) => format!("{}@{backend}", self.host),
            None => self.host.clone(),
        }
    }

    /// The topic and its queue.
    pub fn topic(&self) -> String {
        format!("cinder-volume.{}", self.name())
    }

    /// The topic that is the daemon's own.
    pub fn own_topic(&self) -> String {
        format!("cinder-progress.{}", self.name())
    }

    /// The queue of the server, where progress calls arrive.
    pub fn server_queue(&self) -> String {
        format!("{}.{}", self.topic(), self.host)
    }

    /// The fanout exchange.
    pub fn fanout_exchange(&self) -> String {
        format!("{}_fanout", self.topic())
    }
}

/// `prefix` and something that no other test has: they all run at the same time on one broker.
pub fn unique_name(prefix: &str) -> String {
    format!("{prefix}-{}", &Uuid::new_v4().simple().to_string()[..12])
}
