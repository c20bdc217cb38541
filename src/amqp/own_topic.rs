//! The daemon's own topic: an RPC server of which nothing stays behind, and that touches nothing of cinder-volume's.
//!
//! A caller that speaks oslo.messaging reaches a server through `control_exchange`, by the routing keys of topic
//! and server. Which queue is bound there is the server's business. Ours is exclusive and has a name that nobody
//! had before: it goes with the connection, so that no flag of cinder's matters to it, and a name that a broker
//! node keeps locked after it died (RabbitMQ 4.2 and newer) is never asked for again. RabbitMQ 4.3 refuses
//! transient queues that are not exclusive.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Consumer, ExchangeKind};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::connection::backoff::Backoff;
use super::connection::{Connection, ConnectionError};
use super::inspect::rights::may_publish;
use super::message::Message;
use super::neighbour;
use super::topology::{TopicNames, bind, is_missing, is_refused};
use crate::liveness::{TaskHandle, TaskState};

/// How long a user that may not declare queues is left alone: somebody may give it the right meanwhile.
const REFUSED: Duration = Duration::from_secs(60);

/// First, further and longest wait while the exchange is missing: RabbitMQ logs an error each time it is asked for.
const MISSING: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(1),
    Duration::from_secs(30),
];

/// Serves the topic until `stop`. Whatever comes is taken off at once, as nobody else would take it.
///
/// A user without the right to declare the queue, or to send an answer, costs this topic and no more: it is said in
/// the log, and tried again every minute. An exchange that is missing is waited for: on a broker on which no service of
/// cinder's has been yet nobody could ask, and if it were declared here with other flags than cinder's, no service of
/// cinder's could start.
///
/// # Errors
///
/// Anything else that ends the channel. The caller starts over.
pub async fn serve(
    connection: &Connection,
    names: &TopicNames,
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
            Ok(consumer) => return deliver(connection, consumer, names, take, task, stop).await,
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
    names: &TopicNames,
    take: &(impl Fn(Message<'_>) + Sync),
    task: &TaskHandle,
    stop: &CancellationToken,
) -> Result<(), ConnectionError> {
    info!(topic = %names.topic, "serving the own topic");
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
        if !neighbour::is_own(&delivery) {
            take(Message::of(&delivery));
        }
    }
}
