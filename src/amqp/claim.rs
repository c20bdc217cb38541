//! Start-up checks: that no second daemon serves the same queue, and that we are alone where we
//! claim to be.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::time::Instant;
use tracing::warn;

use super::connection::{Connection, ConnectionError};
use super::topology::{Names, is_locked, is_missing, is_refused, look_up};

/// How long somebody else's presence may last at start: what a killed predecessor has left on
/// the broker is gone in a moment.
const GRACE: Duration = Duration::from_secs(3);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// Whom we expect to meet on our queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// A cinder-volume.
    CinderVolume,
    /// Nobody.
    Nobody,
}

/// Claims the queues of all backends for `connection`.
///
/// At start, whoever is there for longer than a few seconds is there to stay. Later it may be
/// our own connection of a moment ago, of whose end the broker does not know yet: then trying
/// again is right, and other consumers are not looked for.
///
/// # Errors
///
/// [`ConnectionError::Refused`] at start, [`ConnectionError::Occupied`] later, when somebody
/// else is there; what ended the connection.
pub async fn enter(
    connection: &Connection,
    backends: &[Names],
    company: Company,
    at_start: bool,
) -> Result<(), ConnectionError> {
    let deadline = Instant::now() + GRACE;
    loop {
        match look_around(connection, backends, company, at_start).await {
            Err(ConnectionError::Occupied(by)) if at_start => {
                if Instant::now() >= deadline {
                    return Err(ConnectionError::Refused(by));
                }
                tokio::time::sleep(PAUSE).await;
            }
            entered => return entered,
        }
    }
}

async fn look_around(
    connection: &Connection,
    backends: &[Names],
    company: Company,
    at_start: bool,
) -> Result<(), ConnectionError> {
    for names in backends {
        claim(connection, names).await?;
        if at_start && company == Company::Nobody {
            alone(connection, names).await?;
        }
    }
    Ok(())
}

/// Claims the server queue for this connection, so that a second daemon finds it claimed.
///
/// The claim is an exclusive queue of our own, named after the server queue; the broker deletes
/// it with the connection. Nothing of cinder's is touched. A user without the right to declare
/// queues serves unclaimed.
///
/// # Errors
///
/// [`ConnectionError::Occupied`] when another connection holds the claim.
async fn claim(connection: &Connection, names: &Names) -> Result<(), ConnectionError> {
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
        Ok(_) => Ok(()),
        Err(error) if is_locked(&error) => Err(ConnectionError::Occupied(format!(
            "another cinder-progress serves {queue}: stop it, or give this one another host"
        ))),
        Err(error) if is_refused(&error) => {
            warn!(%queue, %error, "cannot see to it that no second daemon runs");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// The name of the claim on a server queue.
#[must_use]
pub fn claim_of(server_queue: &str) -> String {
    format!("cinder-progress.{server_queue}")
}

/// Makes sure that nobody else consumes the topic.
///
/// # Errors
///
/// [`ConnectionError::Occupied`] when somebody does.
async fn alone(connection: &Connection, names: &Names) -> Result<(), ConnectionError> {
    for queue in [&names.server, &names.topic] {
        match look_up(&connection.channel().await?, queue).await {
            Ok(standing) if standing.consumers == 0 => {}
            Ok(standing) => {
                return Err(ConnectionError::Occupied(format!(
                    "{} other consumers on {queue}, as of a cinder-volume: with [progress] mode = \
                     standalone we would take half of its operations; set mode = sidecar",
                    standing.consumers
                )));
            }
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
