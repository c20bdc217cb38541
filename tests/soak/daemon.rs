//! Faults of the daemon and of the network between it and the broker.

use std::time::Duration;

use crate::row::Row;
use crate::support::broker::SharedBroker;
use crate::support::daemon::Daemon;
use crate::support::proxy::{Flow, Proxy, Step};
use crate::support::recorder::{Queues, Via};
use crate::support::service::Service;
use crate::support::trial::Trial;
use crate::support::wait::{PATIENCE, in_time};

/// A fault, and the queues on which it happens.
#[derive(Clone, Copy)]
pub enum Fault {
    /// Killed at any time, so often.
    KilledAtRandom(fn() -> Queues, usize),
    /// Killed so often at each step of a transaction.
    KilledAtEachStep(fn() -> Queues, usize),
    /// SIGTERM and start.
    Restarted(usize),
    /// SIGSTOP until the broker has taken back what it held, SIGCONT.
    Stopped(usize),
    /// Silent in both directions, as long.
    Silent(usize),
    /// So long each way.
    FarAway(Duration),
    /// T full and its consumer stuck.
    TopicFull(usize),
}

/// All of them.
pub const FAULTS: &[(&str, Fault)] = &[
    (
        "daemon killed 120 times, durable queues",
        Fault::KilledAtRandom(Queues::durable, 120),
    ),
    (
        "daemon killed 80 times, quorum queues",
        Fault::KilledAtRandom(Queues::quorum, 80),
    ),
    (
        "daemon killed 10 times at each step, transient queues",
        Fault::KilledAtEachStep(Queues::transient, 10),
    ),
    (
        "daemon killed 10 times at each step, quorum queues",
        Fault::KilledAtEachStep(Queues::quorum, 10),
    ),
    ("daemon restarted 30 times", Fault::Restarted(30)),
    ("daemon stopped by a signal 4 times", Fault::Stopped(4)),
    ("network silent 4 times", Fault::Silent(4)),
    (
        "broker 0.2 s away",
        Fault::FarAway(Duration::from_millis(100)),
    ),
    ("broker 2 s away", Fault::FarAway(Duration::from_secs(1))),
    (
        "topic queue full, its consumer stuck, 5 times",
        Fault::TopicFull(5),
    ),
];

/// Between two faults.
const OPERATIONS: u64 = 100;

/// Where nothing else sets the length.
const MANY: u64 = 1500;

/// A daemon lives at most so long when it is killed at random.
const LIFE: Duration = Duration::from_millis(60);

/// Transactions that pass before the next kill, at most.
const SKIPPED: usize = 12;

const CONFIGURATION: &str =
    "[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 2\nrabbit_retry_backoff = 0";

struct Bench {
    trial: Trial,
    proxy: Proxy,
    daemon: Daemon,
}

/// Makes it.
pub async fn row(name: &str, fault: Fault) -> Row {
    let queues = match fault {
        Fault::KilledAtRandom(queues, _) | Fault::KilledAtEachStep(queues, _) => queues(),
        Fault::TopicFull(_) => Queues::durable().topic_limited_to(40),
        _ => Queues::durable(),
    };
    let mut bench = Bench::start(queues).await;
    bench.suffer(fault).await;
    bench.is_handing_over().await;
    let verdict = bench.trial.finish().await;
    Row::exact(name, true, verdict)
}

impl Bench {
    async fn start(queues: Queues) -> Self {
        let service = Service::unique();
        let trial = Trial::start(&SharedBroker::amqp_uri(), &service, queues).await;
        let proxy = Proxy::start(&SharedBroker::transport_url()).await;
        let url = proxy.transport_url();
        let daemon = Daemon::start_with(&url, &service, "", CONFIGURATION);
        let bench = Self {
            trial,
            proxy,
            daemon,
        };
        bench.is_handing_over().await;
        bench
    }

    async fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::KilledAtRandom(_, kills) => {
                for _ in 0..kills {
                    self.is_handing_over().await;
                    tokio::time::sleep(LIFE.mul_f64(fastrand::f64())).await;
                    self.kill().await;
                }
            }
            Fault::KilledAtEachStep(_, kills) => {
                for step in Step::ALL {
                    for _ in 0..kills {
                        let held = self.proxy.hold_at(step, fastrand::usize(0..=SKIPPED));
                        in_time("the daemon comes to the step", held).await.unwrap();
                        self.kill().await;
                    }
                }
            }
            Fault::Restarted(times) => {
                for _ in 0..times {
                    self.trial.load.wait_for_more(OPERATIONS).await;
                    self.daemon.process.signal("TERM").await;
                    self.daemon.process.wait_for_exit().await;
                    self.daemon.start_again();
                    self.is_handing_over().await;
                }
            }
            Fault::Stopped(times) => {
                for _ in 0..times {
                    self.daemon.process.signal("STOP").await;
                    self.is_given_up().await;
                    self.daemon.process.signal("CONT").await;
                    self.is_handing_over().await;
                }
            }
            Fault::Silent(times) => {
                for _ in 0..times {
                    self.proxy.flow(Flow::Stalled, Flow::Stalled);
                    self.is_given_up().await;
                    self.proxy.flow(Flow::Free, Flow::Free);
                    self.is_handing_over().await;
                }
            }
            Fault::FarAway(each_way) => {
                let far = Flow::Slow(each_way);
                self.proxy.flow(far, far);
                self.trial.load.wait_for_more(MANY).await;
                self.proxy.flow(Flow::Free, Flow::Free);
            }
            Fault::TopicFull(times) => {
                for _ in 0..times {
                    let from = self.daemon.process.stderr.len();
                    self.trial.recorder.stuck(true);
                    self.daemon.wait_for_log_from(from, "standing aside").await;
                    self.trial.load.wait_for_more(OPERATIONS).await;
                    self.trial.recorder.stuck(false);
                    // What still was on T comes sooner than the daemon is back.
                    self.daemon.wait_for_log_from(from, "serving beside").await;
                    self.is_handing_over().await;
                }
            }
        }
    }

    async fn kill(&mut self) {
        self.daemon.process.kill().await;
        self.proxy.cut();
        self.daemon.start_again();
    }

    async fn is_handing_over(&self) {
        let handed_over = self.trial.recorder.wait_for_one_via(Via::Topic);
        // Sooner than the wait itself gives up, because the log says more than it could.
        let handed_over = tokio::time::timeout(PATIENCE.mul_f64(0.9), handed_over).await;
        assert!(handed_over.is_ok(), "{}", self.daemon.log());
    }

    /// Until the broker gives back what the silent daemon had in hand.
    async fn is_given_up(&self) {
        self.trial.recorder.wait_for_one_more_given_back().await;
    }
}
