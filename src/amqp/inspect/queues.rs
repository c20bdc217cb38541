//! What the broker has under a service's names, by passive look-ups alone.

use crate::amqp::claim::claim_of;
use crate::amqp::connection::{Connection, ConnectionError};
use crate::amqp::topology::{QueueState, TopicNames, is_locked, is_missing, look_up};

/// A service's queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuesFound {
    /// T.
    pub topic: Option<QueueState>,
    /// Q.
    pub server: Option<QueueState>,
    /// Whether a daemon that serves Q is connected: its claim exists. The claim does not tell whether
    /// the daemon consumes Q now: it may stand aside.
    pub daemon: bool,
}

/// Looks at the queues of `names`. Declares nothing and consumes nothing.
///
/// What cannot be told this way: the queues' type ([`queue_type`] tells), and who their consumers are.
///
/// [`queue_type`]: super::queue_type
///
/// # Errors
///
/// What ended the connection, or the broker's refusal.
pub async fn look(
    connection: &Connection,
    names: &TopicNames,
) -> Result<QueuesFound, ConnectionError> {
    Ok(QueuesFound {
        topic: standing(connection, &names.topic).await?,
        server: standing(connection, &names.server).await?,
        daemon: is_claimed(connection, names).await?,
    })
}

/// How a queue stands; `None` if it is missing.
async fn standing(
    connection: &Connection,
    queue: &str,
) -> Result<Option<QueueState>, ConnectionError> {
    // One channel for each look: the broker closes a channel on which a missing queue was asked for.
    let channel = connection.channel().await?;
    tokio::select! {
        found = look_up(&channel, queue) => match found {
            Ok(standing) => Ok(Some(standing)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error.into()),
        },
        () = connection.ended() => Err(ConnectionError::Ended),
    }
}

/// The claim is exclusive: for every other connection it is locked (405).
async fn is_claimed(connection: &Connection, names: &TopicNames) -> Result<bool, ConnectionError> {
    match standing(connection, &claim_of(&names.server)).await {
        Ok(_) => Ok(false),
        Err(ConnectionError::Amqp(error)) if is_locked(&error) => Ok(true),
        Err(error) => Err(error),
    }
}
