//! Finds a second daemon on the server queue, or a cinder-volume where standalone expects none.
//!
//! **Where trouble comes from.** Two daemons on one queue answer in turns, each for its own node, so
//! each claims the queue. But a claim may outlive its daemon: for as long as the broker has not
//! noticed the end of a connection, and from RabbitMQ 4.2 on, where the broker node of the connection
//! was killed, until that node is back.
//!
//! **The rule.** A claim is a hint. A claim holds while its daemon shows signs of life: the broker node of the claim
//! answers, and Q has more consumers than cinder-volume's. Consumers alone prove nothing: a quorum queue counts those
//! of a killed node until that node is back. A daemon that stands aside consumes nothing, so a claim without consumers
//! is checked by a question on the daemon's own topic. A daemon that finds a claim waits here, and says so.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::connection::{Connection, ConnectionError};
use super::handover::probe::Probe;
use super::neighbour::Neighbours;
use super::topology::{TopicNames, is_locked, is_missing, is_refused, is_soft, look_up};
use crate::liveness::{TaskHandle, TaskState};

/// How long a claim holds whose daemon shows no sign of life. Longer than a daemon usually stands
/// aside while cinder-volume restarts.
const UNSEEN: Duration = Duration::from_secs(10);

/// The same on queues that this process has served before: the claim is most likely from our own last connection.
const UNSEEN_AGAIN: Duration = Duration::from_secs(3);

/// How long a claim holds whose daemon has answered. A claim nearly always ends with its connection, and each question
/// is a line in the other daemon's log.
const ANSWERED: Duration = Duration::from_secs(60);

/// How long the broker node of a claim may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// Between two looks: a refused claim is a line in the broker's log.
const PAUSE: Duration = Duration::from_secs(1);

/// Which other consumer belongs on our queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedConsumers {
    /// A cinder-volume.
    CinderVolume,
    /// Nobody.
    Nobody,
}

impl ExpectedConsumers {
    /// Consumers of Q besides a daemon's.
    fn consumers(self) -> u32 {
        match self {
            Self::CinderVolume => 1,
            Self::Nobody => 0,
        }
    }
}

/// Another consumer holds one of our queues.
struct Occupied {
    /// Which, and what to do about it.
    by: String,
    /// The backend whose queue is claimed, if it is a claim. A claim does not tell whether its daemon lives.
    claimed: Option<usize>,
}

/// Claims the queues of all backends for `connection`; waits for as long as another consumer holds one of
/// them, and shows it by `task`. Returns at once when `stop` is cancelled.
///
/// `served`: this process has served before. Other consumers on queues that are to be ours alone may then be
/// those of our own last connection, so they are not looked for.
///
/// # Errors
///
/// What ended the connection.
pub async fn enter(
    connection: &Connection,
    backends: &[TopicNames],
    expected: ExpectedConsumers,
    served: bool,
    neighbours: Neighbours<'_>,
    task: &TaskHandle,
    stop: &CancellationToken,
) -> Result<(), ConnectionError> {
    let mut patience = if served { UNSEEN_AGAIN } else { UNSEEN };
    let mut last_seen = Instant::now();
    let mut said = String::new();
    loop {
        let Some(occupied) = look_around(connection, backends, expected, served).await? else {
            return Ok(());
        };
        let claimed = occupied
            .claimed
            .map(|backend| (backend, &backends[backend].server));
        match claimed {
            Some((backend, queue)) if !is_attended(connection, queue, expected).await? => {
                if last_seen.elapsed() >= patience {
                    let answers = tokio::select! {
                        () = stop.cancelled() => return Ok(()),
                        answers = neighbours.answers(connection, backend) => answers?,
                    };
                    if !answers {
                        warn!(%queue, "the claim's daemon shows no sign of life: serving");
                        return Ok(());
                    }
                    info!(%queue, "the other cinder-progress stands aside, and answers on its own topic");
                    (last_seen, patience) = (Instant::now(), ANSWERED);
                }
            }
            _ => last_seen = Instant::now(),
        }
        if said != occupied.by {
            warn!(cause = %occupied.by, "waiting");
            said.clone_from(&occupied.by);
        }
        // Each look at a claim that is held closes a channel.
        if connection.is_worn() {
            return Err(ConnectionError::Worn);
        }
        task.does(TaskState::Occupied(occupied.by));
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = connection.ended() => return Err(ConnectionError::Ended),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn look_around(
    connection: &Connection,
    backends: &[TopicNames],
    expected: ExpectedConsumers,
    served: bool,
) -> Result<Option<Occupied>, ConnectionError> {
    for (backend, names) in backends.iter().enumerate() {
        let mut occupied = claim(connection, names).await?.map(|by| Occupied {
            by,
            claimed: Some(backend),
        });
        if occupied.is_none() && expected == ExpectedConsumers::Nobody && !served {
            occupied = strangers(connection, names).await?;
        }
        if occupied.is_some() {
            return Ok(occupied);
        }
    }
    Ok(None)
}

/// Whether the daemon that has claimed Q shows signs of life: the queue that is its claim can be reached, and more
/// than the expected consumers consume Q.
async fn is_attended(
    connection: &Connection,
    queue: &str,
    expected: ExpectedConsumers,
) -> Result<bool, ConnectionError> {
    if !is_in_reach(connection, &claim_of(queue)).await? {
        return Ok(false);
    }
    match look_up(&connection.channel().await?, queue).await {
        Ok(standing) => Ok(standing.consumers > expected.consumers()),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the broker node that has the exclusive queue of another connection answers.
///
/// Unlike a declare, a passive look reaches the queue itself before the broker refuses it (405). Where the queue's node
/// is down the broker says that there is no such queue (404); where the node hangs, nothing comes.
async fn is_in_reach(connection: &Connection, queue: &str) -> Result<bool, ConnectionError> {
    let probe = Probe::open(connection).await?;
    let found = probe.find(queue, ANSWER).await;
    probe.close().await;
    match found {
        Ok(found) => Ok(found.is_some()),
        Err(error) if is_missing(&error) => Ok(false),
        // Locked, or the broker does not tell this user.
        Err(error) if is_soft(&error) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Claims the server queue for this connection, so that a second daemon finds it claimed.
///
/// The claim is an exclusive queue of our own, named after the server queue; the broker deletes
/// the claim with the connection. Nothing of cinder's is touched. A user without the right to declare
/// queues serves without a claim.
///
/// # Errors
///
/// What ended the connection.
async fn claim(
    connection: &Connection,
    names: &TopicNames,
) -> Result<Option<String>, ConnectionError> {
    let queue = &names.server;
    let claimed = connection
        .channel()
        .await?
        .queue_declare(
            claim_of(queue).into(),
            QueueDeclareOptions {
                exclusive: true,
                auto_delete: true,
                ..QueueDeclareOptions::default()
            },
            FieldTable::default(),
        )
        .await;
    match claimed {
        Ok(_) => Ok(None),
        Err(error) if is_locked(&error) => Ok(Some(format!(
            "another cinder-progress serves {queue}: stop it, or give this one another host"
        ))),
        Err(error) if is_refused(&error) => {
            warn!(%queue, %error, "cannot claim the queue: a second daemon would not be noticed");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The name of the claim on a server queue.
#[must_use]
pub fn claim_of(server_queue: &str) -> String {
    format!("cinder-progress.{server_queue}")
}

/// The consumers that the topic's queues have already.
async fn strangers(
    connection: &Connection,
    names: &TopicNames,
) -> Result<Option<Occupied>, ConnectionError> {
    for queue in [&names.server, &names.topic] {
        match look_up(&connection.channel().await?, queue).await {
            Ok(standing) if standing.consumers == 0 => {}
            Ok(standing) => {
                return Ok(Some(Occupied {
                    by: format!(
                        "{} other consumers on {queue}, as of a cinder-volume: with [progress] mode \
                         = standalone we would take half of its operations; set mode = sidecar",
                        standing.consumers
                    ),
                    claimed: None,
                }));
            }
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}
