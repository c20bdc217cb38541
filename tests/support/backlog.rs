//! Many messages on Q before the daemon starts, and what memory it takes to hand them over.

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, Consumer};

use super::daemon::Daemon;
use super::load::properties;
use super::service::Service;
use super::wait::in_time;

/// The daemon's memory at its peak must stay below, in KiB.
pub const LIMIT: u64 = 64 * 1024;

/// A larger one of cinder's messages.
const BODY: usize = 5000;

/// Acknowledged at once, and looked for in time.
const BATCH: usize = 1000;

/// The peak of the daemon's resident memory, in KiB, over handing over `messages` of 5 kB.
pub async fn peak_memory(amqp_uri: &str, transport_url: &str, messages: usize) -> u64 {
    let service = Service::unique();
    let (topic, server) = (service.topic(), service.server_queue());
    let connection = Connection::connect(amqp_uri, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    for queue in [&topic, &server] {
        let options = QueueDeclareOptions::default();
        let declared = channel.queue_declare(queue.as_str().into(), options, FieldTable::default());
        declared.await.unwrap();
    }
    fill(&channel, &server, messages).await;

    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(
        topic.as_str().into(),
        "".into(),
        options,
        FieldTable::default(),
    );
    let mut consumer = consumer.await.unwrap();
    let _busy = busy(&connection, &server).await;
    let daemon = Daemon::start(transport_url, &service, "");
    let handed_over = messages - 1;
    for came in 1..=handed_over {
        let delivery = in_time("the next one is handed over", consumer.next()).await;
        if came % BATCH == 0 || came == handed_over {
            let all = BasicAckOptions { multiple: true };
            delivery.unwrap().unwrap().acker.ack(all).await.unwrap();
        }
    }
    for queue in [&topic, &server] {
        let deleted = channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default());
        deleted.await.unwrap();
    }
    peak_of(daemon.process.pid())
}

/// A consumer of Q, without which the daemon would stand aside, that is busy with the first message for as long as it
/// lives.
async fn busy(connection: &Connection, queue: &str) -> (Channel, Consumer) {
    let channel = connection.create_channel().await.unwrap();
    let one = channel.basic_qos(1, BasicQosOptions::default());
    one.await.unwrap();
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
    let mut consumer = consumer.await.unwrap();
    let first = in_time("the first one comes", consumer.next()).await;
    drop(first.unwrap().unwrap());
    (channel, consumer)
}

async fn fill(channel: &Channel, queue: &str, messages: usize) {
    let body = vec![b'x'; BODY];
    for _ in 0..messages {
        let options = BasicPublishOptions::default();
        let publishing =
            channel.basic_publish("".into(), queue.into(), options, &body, properties());
        drop(publishing.await.unwrap());
    }
    // The broker has them all when it answers what came after them.
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(queue.into(), passive, FieldTable::default());
    in_time("the queue is filled", declared).await.unwrap();
}

fn peak_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}
