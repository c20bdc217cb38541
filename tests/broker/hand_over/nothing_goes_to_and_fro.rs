//! What the daemon cannot hand over, it leaves to cinder-volume, and it takes nothing where
//! cinder-volume does not.
//!
//! A quorum queue counts how often a message was given back and drops it beyond a limit, without a
//! word. Where nobody else takes from the queue, or who does is busy, the daemon gets the same messages
//! each time that it comes back: twenty times in haste, and they are gone.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use lapin::{BasicProperties, Channel, Connection, Consumer};

use super::any_body_is_handed_over::{publish_with_a_strange_header, text, with_headers};
use crate::support::broker::SharedBroker;
use crate::support::daemon::Daemon;
use crate::support::load::{properties, publish, publisher};
use crate::support::operation;
use crate::support::service::Service;
use crate::support::wait::{in_time, until};

/// A message of Q may be given back so often; beyond that the broker drops it.
const DELIVERY_LIMIT: i32 = 5;

/// Operations that wait on Q together.
const OPERATIONS: u64 = 20;

/// Looks at a queue that must stay as it is, after the daemon has said that it stands aside.
const LOOKS: u32 = 20;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Quorum queues as cinder-volume has them, T with a consumer.
struct Bench {
    service: Service,
    channel: Channel,
    topic: Consumer,
    _connection: Connection,
}

impl Bench {
    async fn start() -> Self {
        let service = Service::unique();
        let (connection, channel) = publisher(&SharedBroker::amqp_uri()).await.unwrap();
        declare(&channel, &service.topic(), &[]).await;
        let limit = ("x-delivery-limit", DELIVERY_LIMIT.into());
        declare(&channel, &service.server_queue(), &[limit]).await;
        let topic = consume(&connection, &service.topic(), 0).await;
        Self {
            service,
            channel,
            topic,
            _connection: connection,
        }
    }

    fn daemon(&self) -> Daemon {
        Daemon::start(&SharedBroker::transport_url(), &self.service, "")
    }

    /// A consumer of Q with no more than `prefetch` messages in hand, on a connection of its own.
    async fn consumer(&self, prefetch: u16) -> (Connection, Consumer) {
        let (connection, _) = publisher(&SharedBroker::amqp_uri()).await.unwrap();
        let consumer = consume(&connection, &self.service.server_queue(), prefetch).await;
        (connection, consumer)
    }

    /// One that has its hands full with operation 0, and what it holds.
    async fn busy_consumer(&self) -> (Connection, Consumer, Delivery) {
        let (connection, mut consumer) = self.consumer(1).await;
        self.send(0, properties()).await;
        let held = in_time("an operation comes", consumer.next()).await;
        (connection, consumer, held.unwrap().unwrap())
    }

    async fn send(&self, number: u64, properties: BasicProperties) {
        let queue = self.service.server_queue();
        let sent = publish(&self.channel, &queue, &operation::cast(number), properties).await;
        assert!(sent.is_some_and(|confirmation| confirmation.is_ack()));
    }

    async fn send_all(&self, numbers: impl Iterator<Item = u64>) {
        for number in numbers {
            self.send(number, properties()).await;
        }
    }

    /// Messages that wait on Q.
    async fn waiting(&self) -> u32 {
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = self.service.server_queue();
        let found =
            self.channel
                .queue_declare(queue.as_str().into(), passive, FieldTable::default());
        found.await.unwrap().message_count()
    }

    /// Waits until the daemon has given up, and all operations but that of the busy consumer wait.
    async fn wait_until_left_alone(&self, daemon: &Daemon) {
        daemon.wait_for_log("came back again and again").await;
        until("all waits on its queue", async || {
            (u64::from(self.waiting().await) == OPERATIONS).then_some(())
        })
        .await;
    }

    /// The next operation on T.
    async fn handed_over(&mut self) -> u64 {
        take(&mut self.topic).await
    }
}

async fn declare(channel: &Channel, queue: &str, more: &[(&str, AMQPValue)]) {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    for (name, value) in more {
        arguments.insert((*name).into(), value.clone());
    }
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(queue.into(), durable, arguments);
    declared.await.unwrap();
}

async fn consume(connection: &Connection, queue: &str, prefetch: u16) -> Consumer {
    let channel = connection.create_channel().await.unwrap();
    let qos = channel.basic_qos(prefetch, BasicQosOptions::default());
    qos.await.unwrap();
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = channel.basic_consume(queue.into(), "".into(), options, arguments);
    consumer.await.unwrap()
}

/// The number of the next operation.
async fn take(consumer: &mut Consumer) -> u64 {
    number_of(in_time("an operation comes", consumer.next()).await).await
}

async fn number_of(delivery: Option<lapin::Result<Delivery>>) -> u64 {
    let delivery = delivery.unwrap().unwrap();
    let acked = delivery.acker.ack(BasicAckOptions::default());
    acked.await.unwrap();
    operation::number_of(&delivery.data).unwrap()
}

async fn take_all(consumer: &mut Consumer, count: u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    for _ in 0..count {
        numbers.push(take(consumer).await);
    }
    numbers.sort_unstable();
    numbers
}

/// The consumer of Q leaves while that of T stays, as when one of cinder-volume's connections is lost.
#[tokio::test]
async fn when_nobody_else_consumes_the_server_queue_any_more() {
    let mut bench = Bench::start().await;
    let (connection, consumer) = bench.consumer(0).await;
    let daemon = bench.daemon();
    daemon.wait_for_log("serving beside").await;
    bench.send(0, properties()).await;
    assert_eq!(bench.handed_over().await, 0);

    // It notices even if nothing comes.
    drop((connection, consumer));
    daemon.wait_for_log("nobody else consumes").await;
    bench.send_all(1..=OPERATIONS).await;
    for _ in 0..LOOKS {
        assert_eq!(u64::from(bench.waiting().await), OPERATIONS);
        tokio::time::sleep(PAUSE).await;
    }

    let (_connection, mut consumer) = bench.consumer(0).await;
    let came = take_all(&mut consumer, OPERATIONS).await;
    assert_eq!(came, (1..=OPERATIONS).collect::<Vec<_>>());
}

/// The consumer of Q leaves while operations come: what is in hand then is given back and stays.
#[tokio::test]
async fn when_the_other_consumer_leaves_under_load() {
    let mut bench = Bench::start().await;
    let (connection, consumer) = bench.consumer(0).await;
    let daemon = bench.daemon();
    daemon.wait_for_log("serving beside").await;
    bench.send_all(1..=OPERATIONS / 2).await;
    drop((connection, consumer));
    bench.send_all(OPERATIONS / 2 + 1..=OPERATIONS).await;
    daemon.wait_for_log("nobody else consumes").await;

    // Some came by way of T as long as the other was there, the rest waits.
    let (_connection, mut consumer) = bench.consumer(0).await;
    let mut came = Vec::new();
    while (came.len() as u64) < OPERATIONS {
        let next = async {
            tokio::select! {
                delivery = consumer.next() => delivery,
                delivery = bench.topic.next() => delivery,
            }
        };
        came.push(number_of(in_time("an operation comes", next).await).await);
    }
    came.sort_unstable();
    assert_eq!(came, (1..=OPERATIONS).collect::<Vec<_>>());
}

/// A message that cannot be handed over, and a cinder-volume that has its hands full: the daemon
/// keeps away until all of it is taken, instead of giving the same messages back again and again.
#[tokio::test]
async fn with_a_message_that_cannot_be_handed_over() {
    let bench = Bench::start().await;
    let (_connection, mut consumer, held) = bench.busy_consumer().await;
    let daemon = bench.daemon();
    daemon.wait_for_log("serving beside").await;
    let copies = AMQPValue::FieldArray(FieldArray::from(vec![text("nowhere")]));
    bench.send(1, with_headers(&[("CC", copies)])).await;
    bench.send_all(2..=OPERATIONS).await;
    bench.wait_until_left_alone(&daemon).await;

    let from = daemon.process.stderr.len();
    held.acker.ack(BasicAckOptions::default()).await.unwrap();
    let came = take_all(&mut consumer, OPERATIONS).await;
    assert_eq!(came, (1..=OPERATIONS).collect::<Vec<_>>());
    daemon.wait_for_log_from(from, "serving beside").await;
}

/// The same with a message that ends the daemon's connection before the daemon has seen it. (It would
/// end the consumer's as well.)
#[tokio::test]
async fn with_a_message_that_ends_the_connection() {
    let bench = Bench::start().await;
    let _busy = bench.busy_consumer().await;
    publish_with_a_strange_header(&bench.service.server_queue(), 1).await;
    bench.send_all(2..=OPERATIONS).await;
    let daemon = bench.daemon();
    bench.wait_until_left_alone(&daemon).await;
}
