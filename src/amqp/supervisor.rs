//! The one loop that keeps a connection: connect, serve until anything ends, next host, wait.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backoff::Backoff;
use super::connection::{Connection, ConnectionError};
use super::counters::Counters;
use super::vitals::{Doing, Part};
use crate::config::{BrokerHost, Brokers, FailoverStrategy, Rabbit};

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
/// several hosts the next is tried at once; a wait comes after each full round.
///
/// # Errors
///
/// [`ConnectionError::Refused`], which trying again would not mend.
pub async fn supervise(
    line: Line,
    counters: &Counters,
    stop: &CancellationToken,
    mut session: impl Session,
) -> Result<(), ConnectionError> {
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
            () = stop.cancelled() => return Ok(()),
            opened = opening => opened,
        };
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
            return Ok(());
        }
        if let Err(refused @ ConnectionError::Refused(_)) = ended {
            return Err(refused);
        }
        let cause = cause(&ended);
        if said.insert((broker.clone(), cause.clone())) {
            warn!(connection = %label, %broker, %cause, "not connected");
        }
        keeper.does(Doing::Disconnected(broker, cause));
        if hosts.is_over() {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = keeper.beating(tokio::time::sleep(backoff.wait())) => {}
            }
        }
    }
    Ok(())
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
