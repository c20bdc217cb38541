//! Faults of the real cinder-volume, with and without the daemon beside it.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::row::Row;
use crate::support::broker::SharedBroker;
use crate::support::cinder_volume::CinderVolume;
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::load::{Load, Sent};
use crate::support::service::Service;
use crate::support::verdict::Verdict;

/// How cinder-volume ends, again and again.
#[derive(Clone, Copy)]
pub enum Fault {
    /// At once.
    Killed,
    /// As its service ends it.
    Stopped,
}

/// All of them.
pub const FAULTS: &[(&str, Fault)] = &[
    ("cinder-volume killed 5 times", Fault::Killed),
    ("cinder-volume stopped 5 times", Fault::Stopped),
];

const TIMES: usize = 5;

/// Between two faults.
const OPERATIONS: u64 = 150;

/// Between two operations: what a Python process can follow.
const PAUSE: Duration = Duration::from_millis(5);

/// With nothing new for so long nothing more will come.
const SETTLED: Duration = Duration::from_secs(5);

/// Makes it.
pub async fn row(name: &str, fault: Fault, beside: bool) -> Row {
    let url = SharedBroker::transport_url();
    let service = Service::unique();
    let mut server = CinderVolume::start(Release::Latest, &url, &service).await;
    let daemon = beside.then(|| Daemon::start(&url, &service, ""));
    if let Some(daemon) = &daemon {
        daemon.wait_for_log("serving beside").await;
    }
    let load = Load::start(&SharedBroker::amqp_uri(), &service.server_queue(), PAUSE);
    let mut numbers = Vec::new();
    for _ in 0..TIMES {
        load.wait_for_more(OPERATIONS).await;
        match fault {
            Fault::Killed => {
                server.process.kill().await;
                server.process.stdout.wait_for_end().await;
                numbers.extend(server.numbers());
            }
            Fault::Stopped => numbers.extend(server.stop().await),
        }
        server = CinderVolume::start(Release::Latest, &url, &service).await;
    }
    load.wait_for_more(OPERATIONS).await;
    let sent = load.finish().await;
    settle(&server).await;
    numbers.extend(server.numbers());
    Row::compared(name, beside, verdict(&sent, &numbers))
}

async fn settle(server: &CinderVolume) {
    let (mut count, mut since) = (server.numbers().len(), Instant::now());
    while since.elapsed() < SETTLED {
        tokio::time::sleep(SETTLED / 10).await;
        let now = server.numbers().len();
        if now != count {
            (count, since) = (now, Instant::now());
        }
    }
}

fn verdict(sent: &Sent, numbers: &[u64]) -> Verdict {
    let mut executed = BTreeSet::new();
    let doubled = numbers.iter().filter(|number| !executed.insert(**number));
    Verdict {
        operations: sent.accepted.len(),
        doubled: doubled.copied().collect(),
        lost: sent
            .accepted
            .keys()
            .filter(|number| !executed.contains(number))
            .copied()
            .collect(),
        ..Verdict::default()
    }
}
