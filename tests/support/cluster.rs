//! A cluster of three brokers, as clouds run it.

use super::broker::Broker;

/// Three nodes: where the load and cinder-volume are, where the daemon is, and one more.
pub struct Cluster {
    // The first node holds the register of ports: it goes last.
    /// The node of neither.
    pub third: Broker,
    /// The first in the daemon's `transport_url`.
    pub of_daemon: Broker,
    /// The node of cinder-volume and the load, which declares the queues: their leader.
    pub of_queues: Broker,
}

impl Cluster {
    /// Starts it.
    pub async fn start() -> Self {
        let of_queues = Broker::start().await;
        let (of_daemon, third) = tokio::join!(of_queues.start_member(), of_queues.start_member());
        Self {
            third,
            of_daemon,
            of_queues,
        }
    }

    /// The daemon's, without the node of cinder-volume, which no fault befalls then.
    pub fn transport_url_beside_queues(&self) -> String {
        url(&[&self.of_daemon, &self.third])
    }

    /// All of them.
    pub fn nodes(&self) -> [&Broker; 3] {
        [&self.of_daemon, &self.third, &self.of_queues]
    }

    /// The daemon's: its own node first, then the others.
    pub fn transport_url(&self) -> String {
        url(&self.nodes())
    }
}

fn url(nodes: &[&Broker]) -> String {
    let hosts: Vec<String> = nodes
        .iter()
        .map(|node| format!("guest:guest@{}", node.address()))
        .collect();
    format!("rabbit://{}//", hosts.join(","))
}
