//! No fault, and faults of the broker and its queues, with and without the daemon.

use lapin::options::QueueDeleteOptions;

use crate::row::Row;
use crate::support::broker::Broker;
use crate::support::daemon::Daemon;
use crate::support::load::publisher;
use crate::support::recorder::{Queues, Via};
use crate::support::service::Service;
use crate::support::trial::Trial;

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
    /// An alarm raised and cleared.
    ShortOfMemory,
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
    ("broker short of memory 3 times", Fault::ShortOfMemory),
];

const TIMES: usize = 3;

/// Deletions each time.
const DELETIONS: usize = 3;

/// Between two faults.
const OPERATIONS: u64 = 300;

const CONFIGURATION: &str = "[oslo_messaging_rabbit]\nrabbit_retry_backoff = 0";

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
    let usual = if beside { Via::Topic } else { Via::Server };
    for _ in 0..TIMES {
        trial.recorder.wait_for_one_via(usual).await;
        trial.load.wait_for_more(OPERATIONS).await;
        suffer(&broker, &trial, fault, usual).await;
        trial.recorder.wait_for_one_via(usual).await;
        trial.load.wait_for_more(OPERATIONS).await;
    }
    let verdict = trial.finish().await;
    let row = match fault {
        Fault::None(_) => Row::exact(name, beside, verdict),
        _ => Row::compared(name, beside, verdict),
    };
    drop(daemon);
    row
}

async fn suffer(broker: &Broker, trial: &Trial, fault: Fault, usual: Via) {
    let (topic, server) = (trial.service.topic(), trial.service.server_queue());
    match fault {
        Fault::None(_) => {}
        Fault::TopicDeleted => delete_often(broker, trial, &[topic], usual).await,
        Fault::BothDeleted => delete_often(broker, trial, &[topic, server], usual).await,
        Fault::Restarted(_) => broker.restart().await,
        Fault::Killed => {
            broker.kill().await;
            broker.start_again().await;
        }
        Fault::ShortOfMemory => {
            for limit in ["0.0000001", "0.4"] {
                broker.ctl(&["set_vm_memory_high_watermark", limit]).await;
            }
        }
    }
}

async fn delete_often(broker: &Broker, trial: &Trial, queues: &[String], usual: Via) {
    for _ in 0..DELETIONS {
        for queue in queues {
            let (_connection, channel) = publisher(&broker.amqp_uri()).await.unwrap();
            let deleted =
                channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default());
            deleted.await.unwrap();
        }
        trial.recorder.wait_for_consumers().await;
        trial.load.wait_for_more(OPERATIONS).await;
        trial.recorder.wait_for_one_via(usual).await;
    }
}
