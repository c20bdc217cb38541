//! No fault, and faults of the broker and its queues, with and without the daemon.

use std::time::Duration;

use lapin::options::QueueDeleteOptions;

use crate::row::Row;
use crate::support::broker::Broker;
use crate::support::daemon::Daemon;
use crate::support::load::publisher;
use crate::support::recorder::{Queues, Via};
use crate::support::service::Service;
use crate::support::trial::Trial;
use crate::support::wait::PATIENCE;

/// What befalls a broker of its own, several times.
#[derive(Clone, Copy)]
pub enum Fault {
    /// Nothing.
    None(fn() -> Queues),
    /// T deleted under load; cinder-volume declares it anew.
    TopicDeleted,
    /// T and Q deleted under load.
    BothDeleted,
    /// Stopped cleanly and started.
    Restarted(fn() -> Queues),
    /// Killed and started.
    Killed,
    /// An alarm raised, and cleared after so long.
    ShortOfMemory(Duration),
}

/// All of them.
pub const FAULTS: &[(&str, Fault)] = &[
    ("none, transient queues", Fault::None(Queues::transient)),
    ("none, durable queues", Fault::None(Queues::durable)),
    ("none, quorum queues", Fault::None(Queues::quorum)),
    ("topic queue deleted 9 times", Fault::TopicDeleted),
    ("both queues deleted 9 times", Fault::BothDeleted),
    (
        "broker restarted 3 times, durable queues",
        Fault::Restarted(Queues::durable),
    ),
    (
        "broker restarted 3 times, quorum queues",
        Fault::Restarted(Queues::quorum),
    ),
    ("broker killed 3 times, durable queues", Fault::Killed),
    (
        "broker short of memory for a moment, 3 times",
        Fault::ShortOfMemory(Duration::ZERO),
    ),
    (
        "broker short of memory for 30 s, 3 times",
        Fault::ShortOfMemory(Duration::from_secs(30)),
    ),
];

const TIMES: usize = 3;

/// Deletions each time.
const DELETIONS: usize = 3;

/// Between two faults.
const OPERATIONS: u64 = 300;

const CONFIGURATION: &str = "[oslo_messaging_rabbit]\nrabbit_retry_backoff = 0";

struct Bench {
    broker: Broker,
    trial: Trial,
    daemon: Option<Daemon>,
}

/// Makes it.
pub async fn row(name: &str, fault: Fault, beside: bool) -> Row {
    let broker = Broker::start().await;
    let service = Service::unique();
    let queues = match fault {
        Fault::None(queues) | Fault::Restarted(queues) => queues(),
        _ => Queues::durable(),
    };
    let trial = Trial::start(&broker.amqp_uri(), &service, queues).await;
    let url = broker.transport_url();
    let daemon = beside.then(|| Daemon::start_with(&url, &service, "", CONFIGURATION));
    let bench = Bench {
        broker,
        trial,
        daemon,
    };
    for _ in 0..TIMES {
        bench.goes_on().await;
        bench.suffer(fault).await;
        bench.goes_on().await;
    }
    let verdict = bench.trial.finish().await;
    match fault {
        Fault::None(_) => Row::exact(name, beside, verdict),
        _ => Row::compared(name, beside, verdict),
    }
}

impl Bench {
    /// Until operations take their usual way, and then some more of them.
    async fn goes_on(&self) {
        let usual = if self.daemon.is_some() {
            Via::Topic
        } else {
            Via::Server
        };
        let came = self.trial.recorder.wait_for_one_via(usual);
        // Sooner than the wait itself gives up, because the log says more than it could.
        let came = tokio::time::timeout(PATIENCE.mul_f64(0.9), came).await;
        let log = || self.daemon.as_ref().map(Daemon::log);
        assert!(came.is_ok(), "nothing via {usual:?}: {:?}", log());
        self.trial.load.wait_for_more(OPERATIONS).await;
    }

    async fn suffer(&self, fault: Fault) {
        let (topic, server) = (
            self.trial.service.topic(),
            self.trial.service.server_queue(),
        );
        match fault {
            Fault::None(_) => {}
            Fault::TopicDeleted => self.delete_often(&[topic]).await,
            Fault::BothDeleted => self.delete_often(&[topic, server]).await,
            Fault::Restarted(_) => self.broker.restart().await,
            Fault::Killed => {
                self.broker.kill().await;
                self.broker.start_again().await;
            }
            Fault::ShortOfMemory(long) => {
                self.allow_memory("0.0000001").await;
                tokio::time::sleep(long).await;
                self.allow_memory("0.4").await;
            }
        }
    }

    async fn allow_memory(&self, share: &str) {
        let set = ["set_vm_memory_high_watermark", share];
        self.broker.ctl(&set).await;
    }

    async fn delete_often(&self, queues: &[String]) {
        for _ in 0..DELETIONS {
            for queue in queues {
                let (_connection, channel) = publisher(&self.broker.amqp_uri()).await.unwrap();
                let options = QueueDeleteOptions::default();
                let deleted = channel.queue_delete(queue.as_str().into(), options);
                deleted.await.unwrap();
            }
            self.trial.recorder.wait_for_consumers().await;
            self.goes_on().await;
        }
    }
}
