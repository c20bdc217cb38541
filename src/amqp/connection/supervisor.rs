//! The one loop that keeps a connection: connect, serve until anything ends, next host, wait.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backoff::{Backoff, jittered};
use super::{Connection, ConnectionError};
use crate::amqp::metrics::Counters;
use crate::config::{BrokerHost, Brokers, FailoverStrategy, Rabbit};
use crate::liveness::{Doing, Part};

/// A session that lived this long was a good one: the next trouble starts with short waits.
const GOOD_SESSION: Duration = Duration::from_secs(30);

/// How long an ended connection has to fail what was under way on it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What to keep connected to, and how.
#[derive(Debug)]
pub struct Line {
    /// The brokers, any of which will do.
    pub brokers: Brokers,
    /// What this connection is for, as shown in the log and by `rabbitmqctl list_connections`.
    pub label: String,
    /// How to log in, to keep in touch and to try again.
    pub rabbit: Rabbit,
    /// Shows what is being done to keep it.
    pub keeper: Part,
}

/// What is done on a connection, again on each new one.
pub trait Session: Send {
    /// Works on `connection` until it ends, until it gives up, or until told to stop. It may be
    /// dropped where it stands a second after the connection has ended.
    ///
    /// # Errors
    ///
    /// Why it could not go on. Whatever it says, the connection is dropped then.
    fn run(
        &mut self,
        connection: &Connection,
    ) -> impl Future<Output = Result<(), ConnectionError>> + Send;
}

/// Keeps `line` open until `stop`, and runs `session` on each connection.
///
/// Hosts are taken in turn, starting at a random one. With
/// several hosts the next is tried at once; a wait comes after each full round. Before that, a
/// connection that was lost is mourned for `kombu_reconnect_delay`, as oslo.messaging does, but
/// jittered: a thousand nodes that lose the same broker must not meet at the next one in the same
/// instant.
pub async fn supervise(
    line: Line,
    counters: &Counters,
    stop: &CancellationToken,
    mut session: impl Session,
) {
    let Line {
        brokers,
        label,
        rabbit,
        keeper,
    } = line;
    let mut backoff = Backoff::new(
        rabbit.rabbit_retry_interval,
        rabbit.rabbit_retry_backoff,
        rabbit.rabbit_interval_max,
    );
    let mut hosts = Round::new(&brokers.hosts, rabbit.kombu_failover_strategy);
    let mut said = HashSet::new();
    while !stop.is_cancelled() {
        let host = hosts.next();
        let broker = format!("{}:{}", host.host, host.port);
        keeper.does(Doing::Connecting(broker.clone()));
        let opening = keeper.beating(Connection::open(&brokers, host, &rabbit, &label));
        let opened = tokio::select! {
            () = stop.cancelled() => return,
            opened = opening => opened,
        };
        let lost = opened.is_ok();
        let ended = match opened {
            Ok(connection) => {
                info!(connection = %label, %broker, "connected");
                counters.connections.add(1);
                let since = Instant::now();
                keeper.does(Doing::Connected(broker.clone()));
                let ended = tokio::select! {
                    ended = keeper.beating(session.run(&connection)) => ended,
                    () = long_gone(&connection) => Err(ConnectionError::Ended),
                };
                keeper.does(Doing::Disconnected(broker.clone(), cause(&ended)));
                connection.close().await;
                if since.elapsed() >= GOOD_SESSION {
                    backoff.reset();
                }
                said.clear();
                ended
            }
            Err(error) => Err(error),
        };
        if stop.is_cancelled() {
            return;
        }
        let cause = cause(&ended);
        if said.insert((broker.clone(), cause.clone())) {
            warn!(connection = %label, %broker, %cause, "not connected");
        }
        keeper.does(Doing::Disconnected(broker, cause));
        let mut pause = Duration::ZERO;
        if lost {
            pause += jittered(rabbit.kombu_reconnect_delay);
            pause += rabbit.kombu_reconnect_splay.mul_f64(fastrand::f64());
        }
        if hosts.is_over() {
            pause += backoff.wait();
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = keeper.beating(tokio::time::sleep(pause)) => {}
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
/// Not every answer that is waited for when a connection ends is told of it (seen after the daemon
/// was stopped by a signal for longer than its heartbeat, about once in a dozen times): whoever
/// awaits it would do so for ever.
async fn long_gone(connection: &Connection) {
    connection.ended().await;
    tokio::time::sleep(LAST_WORDS).await;
}

/// The hosts in turn, starting in a shuffled order as oslo.messaging does.
struct Round {
    hosts: Vec<BrokerHost>,
    strategy: FailoverStrategy,
    at: usize,
}

impl Round {
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
    use crate::liveness::{Role, Vitals};

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

    /// The first `count` visits.
    async fn visits(hosts_there: usize, count: usize, rabbit: Rabbit) -> Vec<(usize, Instant)> {
        let (hosts, mut visits) = hosts(hosts_there).await;
        let line = Line {
            brokers: Brokers {
                hosts,
                virtual_host: "/".to_owned(),
                tls: None,
            },
            label: "test".to_owned(),
            keeper: Vitals::of(&rabbit).part(Role::Intake, None),
            rabbit,
        };
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
        let hour = Duration::from_secs(3600);
        let visits = visits(3, 3, rabbit(hour, hour, hour)).await;
        let mut numbers: Vec<usize> = visits.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2]);
    }

    #[test]
    fn a_thousand_do_not_begin_at_the_same_host() {
        let host = |port| BrokerHost {
            host: "broker".to_owned(),
            port,
            username: "guest".to_owned(),
            password: Secret::new("guest"),
        };
        let hosts: Vec<_> = (0..4).map(host).collect();
        let mut begun = [0; 4];
        for _ in 0..1000 {
            let mut round = Round::new(&hosts, FailoverStrategy::RoundRobin);
            begun[usize::from(round.next().port)] += 1;
        }
        // 250 on average.
        assert!(begun.iter().all(|&count| count > 100), "{begun:?}");
    }
}
