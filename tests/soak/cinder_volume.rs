//! Faults of the real cinder-volume, with and without the daemon beside it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::row::Row;
use crate::support::broker::SharedBroker;
use crate::support::cinder_volume::{CinderVolume, Executed};
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::load::{Load, Sent};
use crate::support::service::Service;
use crate::support::verdict::{Progress, Verdict};

/// How cinder-volume ends.
#[derive(Clone, Copy)]
pub enum Fault {
    /// At once, so often, under a load that a Python process can just follow.
    Killed(usize),
    /// The same at any moment of a load as a node has it.
    KilledAtANodesPace(usize),
    /// So often, as its service ends it.
    Stopped(usize),
    /// Killed once, and away for a minute.
    Away,
}

/// All of them.
pub const FAULTS: &[(&str, Fault, Release)] = &[
    (
        "cinder-volume killed 50 times",
        Fault::Killed(50),
        Release::Latest,
    ),
    (
        "cinder-volume killed 50 times, an operation a second",
        Fault::KilledAtANodesPace(50),
        Release::Latest,
    ),
    (
        "cinder-volume stopped 5 times",
        Fault::Stopped(5),
        Release::Latest,
    ),
    (
        "cinder-volume away for a minute",
        Fault::Away,
        Release::Latest,
    ),
    (
        "cinder-volume of Ocata killed 50 times",
        Fault::Killed(50),
        Release::Ocata,
    ),
    (
        "cinder-volume of Ocata killed 50 times, an operation a second",
        Fault::KilledAtANodesPace(50),
        Release::Ocata,
    ),
    (
        "cinder-volume of Ocata stopped 5 times",
        Fault::Stopped(5),
        Release::Ocata,
    ),
];

const MINUTE: Duration = Duration::from_secs(60);

impl Fault {
    fn times(self) -> usize {
        match self {
            Self::Killed(times) | Self::KilledAtANodesPace(times) | Self::Stopped(times) => times,
            Self::Away => 1,
        }
    }

    /// Between two operations.
    fn pause(self) -> Duration {
        match self {
            Self::KilledAtANodesPace(_) => Duration::from_secs(1),
            _ => Duration::from_millis(5),
        }
    }

    /// Between two faults.
    fn operations(self) -> u64 {
        match self {
            Self::KilledAtANodesPace(_) => 2,
            _ => 150,
        }
    }
}

/// With nothing new for so long nothing more will come.
const SETTLED: Duration = Duration::from_secs(5);

/// Makes it.
pub async fn row(name: &str, fault: Fault, release: Release, beside: bool) -> Row {
    let url = SharedBroker::transport_url();
    let service = Service::unique();
    let mut server = CinderVolume::start(release, &url, &service).await;
    let daemon = beside.then(|| Daemon::start(&url, &service, ""));
    if let Some(daemon) = &daemon {
        daemon.wait_for_log("serving beside").await;
    }
    let load = Load::start(&SharedBroker::amqp_uri(), &service, fault.pause());
    let mut executed = Vec::new();
    for _ in 0..fault.times() {
        load.wait_for_more(fault.operations()).await;
        // Not always the moment after an operation.
        tokio::time::sleep(fault.pause().mul_f64(fastrand::f64())).await;
        match fault {
            Fault::Killed(_) | Fault::KilledAtANodesPace(_) | Fault::Away => {
                server.process.kill().await;
                server.process.stdout.wait_for_end().await;
                executed.extend(server.executed());
                if matches!(fault, Fault::Away) {
                    tokio::time::sleep(MINUTE).await;
                }
            }
            Fault::Stopped(_) => executed.extend(server.stop().await),
        }
        server = CinderVolume::start(release, &url, &service).await;
    }
    load.wait_for_more(fault.operations()).await;
    let sent = load.finish().await;
    settle(&server).await;
    executed.extend(server.executed());
    Row::compared(name, beside, verdict(&sent, &executed))
}

/// Until nothing new is executed any more.
pub async fn settle(server: &CinderVolume) {
    let (mut count, mut since) = (server.executed().len(), Instant::now());
    while since.elapsed() < SETTLED {
        tokio::time::sleep(SETTLED / 10).await;
        let now = server.executed().len();
        if now != count {
            (count, since) = (now, Instant::now());
        }
    }
}

/// Compares what was sent with what was executed.
pub fn verdict(sent: &Sent, executed: &[Executed]) -> Verdict {
    let (now, since_1970) = (Instant::now(), SystemTime::now());
    let mut verdict = Verdict {
        operations: sent.accepted.len(),
        unanswered: sent.unanswered(),
        progress: Progress::of(sent),
        ..Verdict::default()
    };
    let mut numbers = BTreeSet::new();
    for operation in executed {
        let Some(number) = operation.executed.as_u64() else {
            continue;
        };
        if !numbers.insert(number) {
            verdict.doubled.push(number);
        }
        if let Some(sent_at) = sent.accepted.get(&number) {
            let sent_at = since_1970 - now.duration_since(*sent_at);
            let begun_at = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(operation.at);
            let delay = begun_at.duration_since(sent_at).unwrap_or_default();
            verdict.longest_delay = verdict.longest_delay.max(delay);
        }
    }
    let accepted = sent.accepted.keys().copied();
    verdict.lost = accepted
        .filter(|number| !numbers.contains(number))
        .collect();
    verdict.unanswered.retain(|number| numbers.contains(number));
    verdict
}
