//! What an operation pays for passing through the daemon.
//!
//! One at a time: how much later it comes to the consumer of T than one that was published straight to T.
//! And in a burst: 20,000 wait on Q, the server is started, and the pace on T counts, from the first to the last.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeleteOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use serde_json::Value;

use crate::figures::{Table, at_least, at_most, median, ratio, time};
use crate::rivals::floor_process;
use crate::support::broker::SharedBroker;
use crate::support::daemon::Daemon;
use crate::support::environment::repository;
use crate::support::service::Service;
use crate::support::wait::in_time;
use crate::topic::Topic;

/// Rounds of single operations.
const ROUNDS: usize = 7;

/// Operations of a round, by each way.
const SINGLE: usize = 150;

/// Rounds of bursts.
const BURSTS: usize = 3;

/// Operations of a burst.
const BURST: usize = 20_000;

/// A table.
pub async fn measure() -> String {
    let mut table = Table::new(&["", "measured", "goal", ""]);
    single(&mut table).await;
    burst(&mut table).await;
    table.text().to_owned()
}

async fn single(table: &mut Table) {
    let uri = SharedBroker::amqp_uri();
    let topic = Topic::connect(&uri).await;
    let service = Service::unique();
    topic.declare(&service).await;
    let mut arrivals = topic.consume(&service).await;
    let daemon = Daemon::beside(&service).await;
    let plain = Source::connect(&uri).await;
    let confirmed = Source::connect(&uri).await;
    confirmed.confirm().await;
    let (t, q) = (service.topic(), service.server_queue());
    // The first ones meet cold caches.
    for _ in 0..SINGLE {
        delay(&plain, &q, &mut arrivals).await;
    }
    let (mut straight, mut through, mut publish) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        straight.push(median_of(async || delay(&plain, &t, &mut arrivals).await).await);
        through.push(median_of(async || delay(&plain, &q, &mut arrivals).await).await);
        let one = async || {
            let begun = Instant::now();
            confirmed.publish_confirmed(&t).await;
            let elapsed = begun.elapsed();
            next(&mut arrivals).await;
            elapsed
        };
        publish.push(median_of(one).await);
    }
    drop(daemon);
    let added: Vec<f64> = through.iter().zip(&straight).map(|(a, b)| a - b).collect();
    let share = ratio(&added, &publish);
    for (what, times) in [
        ("straight to T, median", &straight),
        ("through cinder-progress, median", &through),
        ("one confirmed publish, median", &publish),
    ] {
        table.row(&[what, &time(median(times.iter().copied())), "", ""]);
    }
    table.row(&[
        "added delay",
        &format!(
            "{} ({share:.2} × one confirmed publish)",
            time(median(added))
        ),
        "2.6 × one confirmed publish",
        at_most(share, 2.6),
    ]);
}

async fn burst(table: &mut Table) {
    let (mut floor, mut ours) = (vec![], vec![]);
    let mut in_order = true;
    for _ in 0..BURSTS {
        floor.push(Burst::of(Server::Floor).await.pace);
        let burst = Burst::of(Server::Daemon).await;
        in_order &= burst.in_order;
        ours.push(burst.pace);
    }
    let share = ratio(&ours, &floor);
    let pace = |paces: &[f64]| format!("{:.0}/s", median(paces.iter().copied()));
    table.row(&["burst of 20,000: the floor", &pace(&floor), "", ""]);
    table.row(&[
        "burst of 20,000: cinder-progress",
        &format!("{} ({share:.2} × floor)", pace(&ours)),
        "0.5 × floor",
        at_least(share, 0.5),
    ]);
    let kept = if in_order {
        ("kept", "reached")
    } else {
        ("not kept", "missed")
    };
    table.row(&["order of the burst", kept.0, "kept", kept.1]);
}

enum Server {
    Floor,
    Daemon,
}

struct Burst {
    /// Operations in a second.
    pace: f64,
    in_order: bool,
}

impl Burst {
    async fn of(server: Server) -> Self {
        let uri = SharedBroker::amqp_uri();
        let topic = Topic::connect(&uri).await;
        let service = Service::unique();
        topic.declare(&service).await;
        let mut arrivals = topic.consume(&service).await;
        let source = Source::connect(&uri).await;
        source.confirm().await;
        let queue = service.server_queue();
        for number in 0..BURST {
            source.publish(&queue, number).await;
        }
        // All are on Q now.
        source.channel.wait_for_confirms().await.unwrap();
        // Kept until all have come.
        let (mut process, mut daemon) = (None, None);
        match server {
            Server::Floor => {
                let arguments = ["forward", &queue, &service.topic()];
                process = Some(floor_process(&arguments).await);
            }
            Server::Daemon => {
                let url = SharedBroker::transport_url();
                daemon = Some(Daemon::start(&url, &service, ""));
            }
        }
        let mut numbers = vec![number_of(&next(&mut arrivals).await)];
        let begun = Instant::now();
        while numbers.len() < BURST {
            numbers.push(number_of(&next(&mut arrivals).await));
        }
        let pace = (BURST - 1) as f64 / begun.elapsed().as_secs_f64();
        drop((process, daemon));
        for queue in [queue, service.topic()] {
            let deleted = source
                .channel
                .queue_delete(queue.into(), QueueDeleteOptions::default());
            deleted.await.unwrap();
        }
        Self {
            pace,
            in_order: numbers.is_sorted(),
        }
    }
}

/// Publishes operations of cinder-api's.
struct Source {
    channel: Channel,
    body: Vec<u8>,
    _connection: Connection,
}

impl Source {
    async fn connect(uri: &str) -> Self {
        let connection = Connection::connect(uri, ConnectionProperties::default())
            .await
            .unwrap();
        let path = repository().join("tests/fixtures/wire/cast-create_volume.latest.json");
        let captured: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        Self {
            channel: connection.create_channel().await.unwrap(),
            body: captured["body"].as_str().unwrap().as_bytes().to_vec(),
            _connection: connection,
        }
    }

    async fn confirm(&self) {
        let options = ConfirmSelectOptions::default();
        self.channel.confirm_select(options).await.unwrap();
    }

    /// The number travels in a property, which the daemon leaves as it is.
    async fn publish(&self, queue: &str, number: usize) -> lapin::PublisherConfirm {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_delivery_mode(2)
            .with_message_id(number.to_string().into());
        let options = BasicPublishOptions::default();
        let published =
            self.channel
                .basic_publish("".into(), queue.into(), options, &self.body, properties);
        published.await.unwrap()
    }

    async fn publish_confirmed(&self, queue: &str) {
        self.publish(queue, 0).await.await.unwrap();
    }
}

/// From the publishing of one operation to `queue` until it comes to T's consumer.
async fn delay(source: &Source, queue: &str, arrivals: &mut Consumer) -> Duration {
    let begun = Instant::now();
    drop(source.publish(queue, 0).await);
    next(arrivals).await;
    begun.elapsed()
}

async fn median_of(mut one: impl AsyncFnMut() -> Duration) -> f64 {
    let mut times = Vec::with_capacity(SINGLE);
    for _ in 0..SINGLE {
        times.push(one().await.as_secs_f64());
    }
    median(times)
}

async fn next(arrivals: &mut Consumer) -> Delivery {
    let arrived = in_time("an operation comes to T", arrivals.next()).await;
    arrived.unwrap().unwrap()
}

fn number_of(delivery: &Delivery) -> usize {
    let id = delivery.properties.message_id().as_ref().unwrap();
    id.as_str().parse().unwrap()
}
