//! The one loop that keeps a connection: connect, serve until anything ends, next host, wait.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::backoff::{Backoff, jittered};
use super::{Connection, ConnectionError};
use crate::amqp::metrics::Counters;
use crate::config::{BrokerHost, Brokers, FailoverStrategy, Rabbit};
use crate::liveness::{TaskHandle, TaskState};

/// A session that lived this long was a good one: after it the waits are short again.
const GOOD_SESSION: Duration = Duration::from_secs(30);

/// How long after a connection's end the work on it has to fail.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What to keep connected to, and how.
#[derive(Debug)]
pub struct ConnectionConfig {
    /// The brokers, any of which will do.
    pub brokers: Brokers,
    /// What this connection is for, as shown in the log and by `rabbitmqctl list_connections`.
    pub label: String,
    /// How to log in, to keep in touch and to try again.
    pub rabbit: Rabbit,
    /// Shows what is being done to keep it.
    pub keeper: TaskHandle,
    /// Where the connections of this process tell each other which broker is there.
    pub found: FoundBroker,
}

/// The broker that was reached last, by any of the connections that share this. Cheap to clone.
///
/// When a broker comes back, each connection of the daemon waits with a back-off of its own. Without this the
/// connection for replies may be there seconds before the one for operations.
#[derive(Debug, Clone)]
pub struct FoundBroker(watch::Sender<Option<BrokerHost>>);

impl Default for FoundBroker {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl FoundBroker {
    fn tell(&self, host: &BrokerHost) {
        self.0.send_replace(Some(host.clone()));
    }
}

/// Waits so long, or until another connection reaches a broker; returns which. Cancel-safe.
async fn pause(
    time: Duration,
    found: &mut watch::Receiver<Option<BrokerHost>>,
) -> Option<BrokerHost> {
    tokio::select! {
        () = tokio::time::sleep(time) => None,
        // The sender is kept for as long as a receiver exists.
        Ok(()) = found.changed() => found.borrow_and_update().clone(),
    }
}

/// The longest wait between two tries of a daemon that was told to stop and still has messages to pass on.
const STOPPING: Duration = Duration::from_millis(250);

/// What is done on a connection, again on each new one.
pub trait Session: Send {
    /// Works on `connection` until it ends, until the work fails, or until told to stop. The future may be
    /// dropped at any await a second after the connection has ended.
    ///
    /// # Errors
    ///
    /// Why it could not go on. Whatever it says, the connection is dropped then.
    fn run(
        &mut self,
        connection: &Connection,
    ) -> impl Future<Output = Result<(), ConnectionError>> + Send;

    /// Whether the session has messages that exist nowhere else and need a connection to be passed on: then a
    /// connection is looked for even after `stop`.
    fn holds(&self) -> bool {
        false
    }
}

/// Keeps `line` open until `stop`, and runs `session` on each connection.
///
/// Hosts are taken in turn, starting at a random one. With several hosts the next is tried at once; a wait comes
/// after each full round, and ends as soon as another connection of the same [`FoundBroker`] is let in: that host is
/// tried then. Before that, a connection that was lost is followed by a wait of `kombu_reconnect_delay`, as in
/// oslo.messaging, but jittered: a thousand nodes that lose the same broker must not meet at the next one in the
/// same instant.
pub async fn supervise(
    line: ConnectionConfig,
    counters: &Counters,
    stop: &CancellationToken,
    mut session: impl Session,
) {
    let ConnectionConfig {
        brokers,
        label,
        rabbit,
        keeper,
        found,
    } = line;
    let mut backoff = Backoff::new(
        rabbit.rabbit_retry_interval,
        rabbit.rabbit_retry_backoff,
        rabbit.rabbit_interval_max,
    );
    let mut hosts = HostRotation::new(&brokers.hosts, rabbit.kombu_failover_strategy);
    let mut said = HashSet::new();
    let mut others = found.0.subscribe();
    let mut there = None;
    while !stop.is_cancelled() || session.holds() {
        // A broker that another connection finds from here on counts, also while this one tries.
        others.mark_unchanged();
        let host = match &there {
            Some(host) => host,
            None => hosts.next(),
        };
        let broker = format!("{}:{}", host.host, host.port);
        keeper.does(TaskState::Connecting(broker.clone()));
        let opening = keeper.beating(Connection::open(&brokers, host, &rabbit, &label));
        let opened = tokio::select! {
            () = stop.cancelled(), if !session.holds() => return,
            opened = opening => opened,
        };
        let lost = opened.is_ok();
        let ended = match opened {
            Ok(connection) => {
                info!(connection = %label, %broker, "connected");
                counters.connections.inc();
                found.tell(host);
                let since = Instant::now();
                keeper.does(TaskState::Connected(broker.clone()));
                let ended = tokio::select! {
                    ended = keeper.beating(session.run(&connection)) => ended,
                    () = long_gone(&connection) => Err(ConnectionError::Ended),
                };
                keeper.does(TaskState::Disconnected(broker.clone(), cause(&ended)));
                connection.close().await;
                if since.elapsed() >= GOOD_SESSION {
                    backoff.reset();
                }
                said.clear();
                ended
            }
            Err(error) => Err(error),
        };
        if stop.is_cancelled() && !session.holds() {
            return;
        }
        let cause = cause(&ended);
        if said.insert((broker.clone(), cause.clone())) {
            warn!(connection = %label, %broker, %cause, "not connected");
        }
        keeper.does(TaskState::Disconnected(broker, cause));
        let mut wait = Duration::ZERO;
        if lost {
            wait += jittered(rabbit.kombu_reconnect_delay);
            wait += rabbit.kombu_reconnect_splay.mul_f64(fastrand::f64());
        }
        if hosts.is_over() {
            wait += backoff.wait();
        }
        // A session that is told to stop and still has messages to pass on has little time.
        let stopping = stop.is_cancelled();
        if stopping {
            wait = wait.min(STOPPING);
        }
        // A connection that was let in and lost again waits its time out: two such connections would otherwise wake
        // each other without end.
        let waiting = async {
            if lost {
                tokio::time::sleep(wait).await;
                None
            } else {
                pause(wait, &mut others).await
            }
        };
        there = tokio::select! {
            () = stop.cancelled(), if !stopping => {
                if !session.holds() {
                    return;
                }
                None
            }
            there = keeper.beating(waiting) => there,
        };
        if there.is_some() {
            debug!(connection = %label, "another connection was let in: trying again at once");
        }
    }
}

/// Why there is no connection any more.
fn cause(ended: &Result<(), ConnectionError>) -> String {
    match ended {
        Ok(()) => ConnectionError::Ended.to_string(),
        Err(error) => error.to_string(),
    }
}

/// Returns a while after the connection has ended.
///
/// lapin does not tell every waiting answer of the connection's end (seen about once in a dozen times after the daemon
/// was stopped by a signal for longer than its heartbeat): an await of it would never end.
async fn long_gone(connection: &Connection) {
    connection.ended().await;
    tokio::time::sleep(LAST_WORDS).await;
}

/// The hosts in turn, starting in a shuffled order as oslo.messaging does.
struct HostRotation {
    hosts: Vec<BrokerHost>,
    strategy: FailoverStrategy,
    at: usize,
}

impl HostRotation {
    fn new(hosts: &[BrokerHost], strategy: FailoverStrategy) -> Self {
        let mut hosts = hosts.to_vec();
        fastrand::shuffle(&mut hosts);
        Self {
            hosts,
            strategy,
            at: 0,
        }
    }

    fn next(&mut self) -> &BrokerHost {
        if self.at == self.hosts.len() {
            self.at = 0;
            if self.strategy == FailoverStrategy::Shuffle {
                fastrand::shuffle(&mut self.hosts);
            }
        }
        self.at += 1;
        &self.hosts[self.at - 1]
    }

    fn is_over(&self) -> bool {
        self.at == self.hosts.len()
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;
    use crate::config::{Secret, Sources, load};
    use crate::liveness::{Liveness, Role};

    /// A loaded machine comes late, never early.
    const LATE: Duration = Duration::from_secs(5);

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Hosts that hang up on whoever comes, and when somebody came to which.
    async fn hosts(count: usize) -> (Vec<BrokerHost>, mpsc::UnboundedReceiver<(usize, Instant)>) {
        let (came, visits) = mpsc::unbounded_channel();
        let mut hosts = Vec::new();
        for number in 0..count {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            hosts.push(BrokerHost {
                host: "127.0.0.1".to_owned(),
                port: listener.local_addr().unwrap().port(),
                username: "guest".to_owned(),
                password: Secret::new("guest"),
            });
            let came = came.clone();
            tokio::spawn(async move {
                while let Ok((socket, _)) = listener.accept().await {
                    drop(socket);
                    if came.send((number, Instant::now())).is_err() {
                        return;
                    }
                }
            });
        }
        (hosts, visits)
    }

    struct Never;

    impl Session for Never {
        async fn run(&mut self, _: &Connection) -> Result<(), ConnectionError> {
            unreachable!("nobody lets us in")
        }
    }

    fn line(hosts: Vec<BrokerHost>, rabbit: Rabbit) -> ConnectionConfig {
        ConnectionConfig {
            brokers: Brokers {
                hosts,
                virtual_host: "/".to_owned(),
                tls: None,
            },
            label: "test".to_owned(),
            keeper: Liveness::of(rabbit.heartbeat_timeout_threshold).task(Role::Intake, None),
            rabbit,
            found: FoundBroker::default(),
        }
    }

    /// The first `count` visits.
    async fn visits(hosts_there: usize, count: usize, rabbit: Rabbit) -> Vec<(usize, Instant)> {
        let (hosts, mut visits) = hosts(hosts_there).await;
        let line = line(hosts, rabbit);
        let counters = Counters::default();
        let stop = CancellationToken::new();
        let mut seen = Vec::new();
        let collect = async {
            while seen.len() < count {
                seen.push(visits.recv().await.unwrap());
            }
            stop.cancel();
        };
        tokio::join!(supervise(line, &counters, &stop, Never), collect);
        seen
    }

    fn rabbit(interval: Duration, step: Duration, longest: Duration) -> Rabbit {
        let nothing = Sources {
            config_files: vec!["/dev/null".into()],
            ..Sources::default()
        };
        Rabbit {
            rabbit_retry_interval: interval,
            rabbit_retry_backoff: step,
            rabbit_interval_max: longest,
            ..load(&nothing).unwrap().rabbit
        }
    }

    #[tokio::test]
    async fn waits_are_those_of_the_options() {
        let rabbit = rabbit(millis(100), millis(200), millis(400));
        let visits = visits(1, 5, rabbit).await;
        let bases = [100, 300, 400, 400].map(millis);
        for (pair, base) in visits.windows(2).zip(bases) {
            let wait = pair[1].1 - pair[0].1;
            assert!(
                wait >= base / 2 && wait <= base * 3 / 2 + LATE,
                "{base:?}: {wait:?}"
            );
        }
    }

    #[tokio::test]
    async fn each_host_is_tried_once_a_round_and_the_next_at_once() {
        let visits = visits(3, 3, rabbit(HOUR, HOUR, HOUR)).await;
        let mut numbers: Vec<usize> = visits.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2]);
    }

    const HOUR: Duration = Duration::from_secs(3600);

    fn host(port: u16) -> BrokerHost {
        BrokerHost {
            host: "broker".to_owned(),
            port,
            username: "guest".to_owned(),
            password: Secret::new("guest"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_when_another_connection_finds_a_broker_and_not_by_what_was_known_before() {
        let found = FoundBroker::default();
        let mut others = found.0.subscribe();
        found.tell(&host(1));
        others.mark_unchanged();
        let since = tokio::time::Instant::now();
        assert_eq!(pause(HOUR, &mut others).await, None);
        assert_eq!(since.elapsed(), HOUR);

        // While it waits.
        let tell = async {
            tokio::time::sleep(millis(10)).await;
            found.tell(&host(2));
        };
        let (there, ()) = tokio::join!(pause(HOUR, &mut others), tell);
        assert_eq!(there, Some(host(2)));
        // While it tries itself.
        found.tell(&host(3));
        assert_eq!(pause(HOUR, &mut others).await, Some(host(3)));
        assert_eq!(since.elapsed(), HOUR + millis(10));
    }

    #[tokio::test]
    async fn it_comes_by_the_host_where_another_connection_was_let_in() {
        let (hosts, mut visits) = hosts(3).await;
        let line = line(hosts.clone(), rabbit(HOUR, HOUR, HOUR));
        let (found, counters) = (line.found.clone(), Counters::default());
        let stop = CancellationToken::new();
        let others = async {
            for _ in 0..3 {
                visits.recv().await.unwrap();
            }
            for known in [2, 0] {
                // It may not wait yet: the last of the three may still be hanging up.
                found.tell(&hosts[known]);
                let (visited, _) = visits.recv().await.unwrap();
                assert_eq!(visited, known);
            }
            stop.cancel();
        };
        tokio::join!(supervise(line, &counters, &stop, Never), others);
    }

    /// Has messages to pass on until it was let in.
    struct Holding;

    impl Session for Holding {
        async fn run(&mut self, _: &Connection) -> Result<(), ConnectionError> {
            unreachable!("nobody lets us in")
        }

        fn holds(&self) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn what_nobody_else_has_keeps_it_trying_after_it_was_told_to_stop() {
        let (hosts, mut visits) = hosts(1).await;
        let line = line(hosts, rabbit(HOUR, HOUR, HOUR));
        let counters = Counters::default();
        let stop = CancellationToken::new();
        stop.cancel();
        tokio::select! {
            () = supervise(line, &counters, &stop, Holding) => panic!("given up"),
            () = async { for _ in 0..3 { visits.recv().await.unwrap(); } } => {}
        }
    }

    #[test]
    fn a_thousand_do_not_begin_at_the_same_host() {
        let hosts: Vec<_> = (0..4).map(host).collect();
        let mut begun = [0; 4];
        for _ in 0..1000 {
            let mut round = HostRotation::new(&hosts, FailoverStrategy::RoundRobin);
            begun[usize::from(round.next().port)] += 1;
        }
        // 250 on average.
        assert!(begun.iter().all(|&count| count > 100), "{begun:?}");
    }
}
