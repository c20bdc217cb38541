//! Faults of the broker, with and without the daemon.

use crate::row::Row;
use crate::support::broker::Broker;
use crate::support::daemon::Daemon;
use crate::support::recorder::{Queues, Via};
use crate::support::service::Service;
use crate::support::trial::Trial;

/// What befalls a broker of its own, several times.
#[derive(Clone, Copy)]
pub enum Fault {
    /// Stopped cleanly and started.
    Restarted(fn() -> Queues),
    /// Killed and started.
    Killed,
    /// An alarm raised and cleared.
    ShortOfMemory,
}

/// All of them.
pub const FAULTS: &[(&str, Fault)] = &[
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

/// Between two faults.
const OPERATIONS: u64 = 300;

const CONFIGURATION: &str = "[oslo_messaging_rabbit]\nrabbit_retry_backoff = 0";

/// Makes it.
pub async fn row(name: &str, fault: Fault, beside: bool) -> Row {
    let broker = Broker::start().await;
    let service = Service::unique();
    let queues = match fault {
        Fault::Restarted(queues) => queues(),
        Fault::Killed | Fault::ShortOfMemory => Queues::durable(),
    };
    let trial = Trial::start(&broker.amqp_uri(), &service, queues).await;
    let url = broker.transport_url();
    let daemon = beside.then(|| Daemon::start_with(&url, &service, "", CONFIGURATION));
    let usual = if beside { Via::Topic } else { Via::Server };
    for _ in 0..TIMES {
        trial.recorder.wait_for_one_via(usual).await;
        trial.load.wait_for_more(OPERATIONS).await;
        suffer(&broker, fault).await;
        trial.recorder.wait_for_one_via(usual).await;
        trial.load.wait_for_more(OPERATIONS).await;
    }
    let row = Row::compared(name, beside, trial.finish().await);
    drop(daemon);
    row
}

async fn suffer(broker: &Broker, fault: Fault) {
    match fault {
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
