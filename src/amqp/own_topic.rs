//! The daemon's own topic: an RPC server that leaves nothing behind and touches nothing of cinder-volume's.
//!
//! A caller that speaks oslo.messaging reaches a server through `control_exchange`, by the routing keys of topic
//! and server. The server chooses which queue is bound there. Ours is exclusive and has a name that is new each time.
//! It goes with the connection, so no flag of cinder's matters to it. The new name avoids one that a broker node keeps
//! locked after its death (RabbitMQ 4.2 and newer). RabbitMQ 4.3 refuses transient queues that are not exclusive.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Consumer, ExchangeKind};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::connection::backoff::Backoff;
use super::connection::{Connection, ConnectionError};
use super::inspect::rights::may_publish;
use super::message::Message;
use super::neighbour::DaemonIdentity;
use super::topology::{TopicNames, bind, is_missing, is_refused};
use crate::liveness::{TaskHandle, TaskState};

/// How long until the next try where the user may not declare queues: the operator may give the right meanwhile.
const REFUSED: Duration = Duration::from_secs(60);

/// First, further and longest wait while the exchange is missing: RabbitMQ logs an error each time it is asked for.
const MISSING: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(1),
    Duration::from_secs(30),
];

/// Serves the topic until `stop`. Each message is acknowledged at once, because no other server would take it.
///
/// A user without the right to declare the queue, or to send an answer, makes only this topic unavailable: this is
/// logged, and tried again every minute. A missing exchange is waited for. It is missing where no service of cinder's
/// has used the broker yet, and then nobody could ask. Declared here with other flags than cinder's, it would keep
/// every service of cinder's from starting.
///
/// # Errors
///
/// Anything else that ends the channel. The caller starts over.
pub async fn serve(
    connection: &Connection,
    names: &TopicNames,
    identity: &DaemonIdentity,
    take: &(impl Fn(Message<'_>) + Sync),
    task: &TaskHandle,
    stop: &CancellationToken,
) -> Result<(), ConnectionError> {
    let [first, step, longest] = MISSING;
    let mut missing = Backoff::new(first, step, longest);
    let mut said = String::new();
    loop {
        let consumer = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            consumer = consume(connection, names) => consumer,
        };
        let (cause, wait) = match consumer {
            Ok(consumer) => {
                info!(topic = %names.topic, "serving the own topic");
                let take = |delivery: &Delivery| {
                    if identity.is_to_answer(delivery) {
                        take(Message::of(delivery));
                    }
                };
                return deliver(connection, consumer, &take, task, stop).await;
            }
            Err(ConnectionError::Amqp(error)) if is_refused(&error) => (error.to_string(), REFUSED),
            Err(error @ ConnectionError::Forbidden) => (error.to_string(), REFUSED),
            Err(ConnectionError::Amqp(error)) if is_missing(&error) => {
                (error.to_string(), missing.wait())
            }
            Err(error) => return Err(error),
        };
        if connection.is_worn() {
            return Err(ConnectionError::Worn);
        }
        if said != cause {
            warn!(topic = %names.topic, %cause, "the own topic cannot be served");
            said.clone_from(&cause);
        }
        task.does(TaskState::Refused(cause));
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = connection.ended() => return Err(ConnectionError::Ended),
            () = task.beating(tokio::time::sleep(wait)) => {}
        }
    }
}

async fn consume(connection: &Connection, names: &TopicNames) -> Result<Consumer, ConnectionError> {
    if !may_publish(connection).await? {
        return Err(ConnectionError::Forbidden);
    }
    let channel = connection.channel().await?;
    channel
        .exchange_declare(
            names.exchange.as_str().into(),
            ExchangeKind::Topic,
            ExchangeDeclareOptions {
                passive: true,
                ..ExchangeDeclareOptions::default()
            },
            FieldTable::default(),
        )
        .await?;
    let queue = format!("{}_{}", names.topic, uuid::Uuid::new_v4().simple());
    channel
        .queue_declare(
            queue.as_str().into(),
            QueueDeclareOptions {
                exclusive: true,
                auto_delete: true,
                ..QueueDeclareOptions::default()
            },
            FieldTable::default(),
        )
        .await?;
    for key in [&names.topic, &names.server] {
        bind(&channel, &queue, &names.exchange, key).await?;
    }
    let consumer = channel
        .basic_consume(
            queue.as_str().into(),
            "".into(),
            BasicConsumeOptions {
                no_ack: true,
                ..BasicConsumeOptions::default()
            },
            FieldTable::default(),
        )
        .await?;
    Ok(consumer)
}

async fn deliver(
    connection: &Connection,
    mut consumer: Consumer,
    take: &(impl Fn(&Delivery) + Sync),
    task: &TaskHandle,
    stop: &CancellationToken,
) -> Result<(), ConnectionError> {
    task.does(TaskState::Serving);
    loop {
        task.heartbeat();
        let delivery = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            () = connection.ended() => return Err(ConnectionError::Ended),
            next = consumer.next() => match next {
                Some(delivery) => delivery?,
                None => return Err(ConnectionError::Cancelled),
            },
            () = task.idle() => continue,
        };
        take(&delivery);
    }
}
