//! Standalone: consume a topic as its only RPC server, as oslo.messaging would.

use std::task::Poll;

use futures_util::stream::{FuturesUnordered, select_all};
use futures_util::{StreamExt, poll};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::connection::{Connection, ConnectionError};
use super::inspect::rights::may_publish;
use super::message::Message;
use super::topology::{TopicNames, consumer_arguments, declare};
use crate::config::Rabbit;
use crate::liveness::{TaskHandle, TaskState};

/// Acknowledgements on their way to the broker at most; while it takes none, no message is taken.
const ACKS: usize = 128;

/// What RabbitMQ calls the queues that it denies from 4.3 on, and ends the connection over (541).
const DENIED: &str = "transient_nonexcl_queues";

/// The error of a declaration; where the broker denies the queue, in the words of the options.
fn in_words(error: lapin::Error) -> ConnectionError {
    if error.to_string().contains(DENIED) {
        ConnectionError::TransientDenied
    } else {
        error.into()
    }
}

/// Declares exchange, T, Q and F and serves all three until `stop`.
///
/// Each message is acknowledged before `take` sees it, as with oslo.messaging: a call that kills its server
/// must not come back to kill the next.
///
/// # Errors
///
/// Anything that ends the channel: a queue that exists with other flags (406), a cancelled
/// consumer, the end of the connection. The caller starts over.
pub async fn serve(
    connection: &Connection,
    names: &TopicNames,
    rabbit: &Rabbit,
    take: &(impl Fn(Message<'_>) + Sync),
    task: &TaskHandle,
    stop: &CancellationToken,
) -> Result<(), ConnectionError> {
    if !may_publish(connection).await? {
        return Err(ConnectionError::Forbidden);
    }
    let channel = connection.channel().await?;
    let fanout = declare(&channel, names, rabbit).await.map_err(in_words)?;
    // Streams cannot be consumed without a limit.
    let prefetch = if rabbit.rabbit_stream_fanout {
        rabbit.rabbit_qos_prefetch_count.max(1)
    } else {
        rabbit.rabbit_qos_prefetch_count
    };
    channel
        .basic_qos(prefetch, BasicQosOptions::default())
        .await?;
    let mut consumers = Vec::new();
    for queue in [&names.topic, &names.server, &fanout] {
        let arguments = if *queue == fanout && rabbit.rabbit_stream_fanout {
            // Only messages from now on: older ones were for the servers of that time.
            let mut arguments = FieldTable::default();
            arguments.insert(
                "x-stream-offset".into(),
                AMQPValue::LongString(LongString::from("next")),
            );
            arguments
        } else {
            consumer_arguments(rabbit)
        };
        let consumer = channel
            .basic_consume(
                queue.as_str().into(),
                "".into(),
                BasicConsumeOptions::default(),
                arguments,
            )
            .await?;
        // A cancelled consumer ends its stream silently; the end is made visible, because the
        // other two would go on.
        consumers.push(consumer.map(Some).chain(futures_util::stream::iter([None])));
    }
    info!(queue = %names.server, topic = %names.topic, "serving alone");
    task.does(TaskState::Serving);
    let mut deliveries = select_all(consumers.into_iter().map(Box::pin));
    let mut acks = FuturesUnordered::new();
    loop {
        task.heartbeat();
        let delivery = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = connection.ended() => return Err(ConnectionError::Ended),
            Some(acked) = acks.next() => {
                acked?;
                continue;
            }
            next = deliveries.next(), if acks.len() < ACKS => match next.flatten() {
                Some(delivery) => delivery?,
                None => return Err(ConnectionError::Cancelled),
            },
            // Acknowledgements that are not written in time mean that the loop is not idle.
            () = task.idle(), if acks.is_empty() => continue,
        };
        let acker = delivery.acker.clone();
        let mut ack = Box::pin(async move { acker.ack(BasicAckOptions::default()).await });
        // The first poll queues the acknowledgement; waiting until it is written would cost every caller a turn
        // of lapin's thread.
        match poll!(ack.as_mut()) {
            Poll::Ready(acked) => drop(acked?),
            Poll::Pending => acks.push(ack),
        }
        take(Message::of(&delivery));
    }
    while let Some(acked) = acks.next().await {
        acked?;
    }
    Ok(())
}
