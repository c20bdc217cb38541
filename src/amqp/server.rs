//! Standalone: consume a topic as its only RPC server, as oslo.messaging would.

use futures_util::StreamExt;
use futures_util::stream::select_all;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::connection::{Connection, ConnectionError};
use super::message::Message;
use super::topology::{Names, consumer_arguments, declare};
use super::vitals::{Doing, Part};
use crate::config::Rabbit;

/// Declares exchange, T, Q and F and serves all three until `stop`.
///
/// Each message is acknowledged before `take` sees it, as oslo.messaging does: a call that kills
/// its server must not come back to kill the next.
///
/// # Errors
///
/// Anything that ends the channel: a queue that exists with other flags (406), a cancelled
/// consumer, the end of the connection. The caller starts over.
pub async fn serve(
    connection: &Connection,
    names: &Names,
    rabbit: &Rabbit,
    take: &(impl Fn(Message<'_>) + Sync),
    part: &Part,
    stop: &CancellationToken,
) -> Result<(), ConnectionError> {
    let channel = connection.channel().await?;
    let fanout = declare(&channel, names, rabbit).await?;
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
            // Only what comes from now on: older messages were for those who lived then.
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
    part.does(Doing::Serving);
    let mut deliveries = select_all(consumers.into_iter().map(Box::pin));
    loop {
        part.beat();
        let delivery = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            () = connection.ended() => return Err(ConnectionError::Ended),
            next = deliveries.next() => match next.flatten() {
                Some(delivery) => delivery?,
                None => return Err(ConnectionError::Cancelled),
            },
            () = part.idle() => continue,
        };
        delivery.acker.ack(BasicAckOptions::default()).await?;
        take(Message::of(&delivery));
    }
}
