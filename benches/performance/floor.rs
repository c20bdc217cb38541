//! The least that a server can do with nothing but lapin: what nothing on the same library can beat.
//!
//! Each floor is a process of its own, this program under another role, with as many threads as the
//! daemon. It serves until it is killed.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};

use crate::support::broker::SharedBroker;

/// The first argument of a floor.
pub const ROLE: &str = "floor";

/// Threads that run its tasks: as many as the daemon has.
pub const THREADS: usize = 1;

/// What it writes on stdout when it consumes.
pub const READY: &str = "ready";

/// As long as an answer of the daemon.
const CONSTANT: &[u8] = &[b'.'; 192];

/// Messages published and not yet acknowledged, at most.
const UNDER_WAY: usize = 1024;

/// Plays the role that the arguments say.
pub async fn run(arguments: &[String]) {
    let uri = SharedBroker::amqp_uri();
    let connection = Connection::connect(&uri, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    match arguments {
        [role, queue] if role == "answer" => answer(&channel, queue).await,
        [role, queue, target] if role == "forward" => forward(&channel, queue, target).await,
        _ => panic!("no such floor: {arguments:?}"),
    }
}

/// A constant to each call, where the AMQP properties say: no body is read, nothing is looked up,
/// nothing is confirmed.
async fn answer(channel: &Channel, queue: &str) {
    let mut calls = consume(channel, queue).await;
    while let Some(call) = calls.next().await {
        let call = call.unwrap();
        let asked = &call.properties;
        if let (Some(queue), Some(id)) = (asked.reply_to(), asked.correlation_id()) {
            let properties = BasicProperties::default().with_correlation_id(id.clone());
            let options = BasicPublishOptions::default();
            let published =
                channel.basic_publish("".into(), queue.clone(), options, CONSTANT, properties);
            drop(published.await.unwrap());
        }
        call.acker.ack(BasicAckOptions::default()).await.unwrap();
    }
}

/// Each message to `target`, mandatory and confirmed, then acknowledged; many at the same time.
///
/// A process that is killed between the two leaves the message on both queues.
async fn forward(channel: &Channel, queue: &str, target: &str) {
    let options = ConfirmSelectOptions::default();
    channel.confirm_select(options).await.unwrap();
    let mut messages = consume(channel, queue).await;
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            message = messages.next(), if under_way.len() < UNDER_WAY => {
                let message = message.unwrap().unwrap();
                let options = BasicPublishOptions {
                    mandatory: true,
                    ..BasicPublishOptions::default()
                };
                let properties = message.properties.clone();
                let published =
                    channel.basic_publish("".into(), target.into(), options, &message.data, properties);
                let confirmation = published.await.unwrap();
                under_way.push(async move {
                    confirmation.await.unwrap();
                    message.acker.ack(BasicAckOptions::default()).await.unwrap();
                });
            }
            Some(()) = under_way.next() => {}
        }
    }
}

async fn consume(channel: &Channel, queue: &str) -> Consumer {
    let options = BasicConsumeOptions::default();
    let consumer = channel
        .basic_consume(queue.into(), "".into(), options, FieldTable::default())
        .await
        .unwrap();
    println!("{READY}");
    consumer
}
