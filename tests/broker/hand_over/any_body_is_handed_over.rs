//! Whatever a message holds, cinder-volume gets it as it was sent: body and properties.
//!
//! What the daemon cannot read is none of its business, and what its AMQP library cannot read must
//! still end up where it belongs.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, ByteArray, FieldArray, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Consumer};
use tokio::process::Command;

use crate::support::broker::SharedBroker;
use crate::support::cinder_volume::CinderVolume;
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::load::{properties, publish, publisher};
use crate::support::operation;
use crate::support::service::Service;
use crate::support::wait::in_time;

/// Larger than anything cinder sends.
const LARGE: usize = 10 * 1024 * 1024;

fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let entries: BTreeMap<_, _> = entries
        .iter()
        .map(|(name, value)| ((*name).into(), value.clone()))
        .collect();
    entries.into()
}

pub(super) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

pub(super) fn with_headers(headers: &[(&str, AMQPValue)]) -> BasicProperties {
    properties().with_headers(table(headers))
}

fn bodies() -> Vec<(Vec<u8>, BasicProperties)> {
    let gzip = |name: &str| with_headers(&[("compression", text(name))]);
    vec![
        (Vec::new(), properties()),
        (Vec::new(), BasicProperties::default()),
        (b"no JSON".to_vec(), properties()),
        (b"\xff\xfe\x00".to_vec(), BasicProperties::default()),
        (vec![b'x'; LARGE], properties()),
        (b"get_migrate_volume_progress".to_vec(), properties()),
        (operation::cast(1), gzip("application/x-gzip")),
        (vec![0x78, 0x9c, 0, 1, 2], gzip("application/x-gzip")),
        (
            b"BZh9 and then nonsense".to_vec(),
            gzip("application/x-bz2"),
        ),
        (operation::cast(2), gzip("a compression nobody knows")),
        (
            operation::cast(3),
            with_headers(&[(
                "bytes",
                AMQPValue::ByteArray(ByteArray::from(&b"\xff\x00"[..])),
            )]),
        ),
        (
            operation::cast(4),
            with_headers(&[(
                "a text that is none",
                AMQPValue::LongString(LongString::from(&b"\xff\xfe"[..])),
            )]),
        ),
        (
            operation::cast(5),
            properties().with_user_id("guest".into()),
        ),
        (
            operation::cast(6),
            properties()
                .with_correlation_id("c".into())
                .with_reply_to("r".into())
                .with_expiration("60000".into())
                .with_message_id("m".into())
                .with_timestamp(1_700_000_000)
                .with_type("t".into())
                .with_app_id("a".into()),
        ),
    ]
}

struct Bench {
    channel: Channel,
    topic: Consumer,
    server: Consumer,
    service: Service,
    _daemon: Daemon,
}

impl Bench {
    async fn start() -> Self {
        let service = Service::unique();
        let (connection, channel) = publisher(&SharedBroker::amqp_uri()).await.unwrap();
        let topic = consumer(&channel, &service.topic()).await;
        let server = consumer(&channel, &service.server_queue()).await;
        let daemon = Daemon::start(&SharedBroker::transport_url(), &service, "");
        daemon.wait_for_log("serving beside").await;
        // It lives as long as its channels.
        drop(connection);
        Self {
            channel,
            topic,
            server,
            service,
            _daemon: daemon,
        }
    }

    async fn send(&self, body: &[u8], properties: &BasicProperties) {
        let queue = self.service.server_queue();
        let sent = publish(&self.channel, &queue, body, properties.clone()).await;
        assert!(sent.is_some_and(|confirmation| confirmation.is_ack()));
    }

    /// The next message on either queue.
    async fn next(&mut self) -> Delivery {
        let next = async {
            tokio::select! {
                delivery = self.topic.next() => delivery,
                delivery = self.server.next() => delivery,
            }
        };
        let delivery = in_time("the message comes", next).await.unwrap().unwrap();
        delivery
            .acker
            .ack(BasicAckOptions::default())
            .await
            .unwrap();
        delivery
    }

    /// Sends a message with a copy under this header, and returns it as cinder-volume got it.
    async fn one_copy(&mut self, header: &str) -> Delivery {
        let copies = format!("copies-{}", self.service.host);
        let mut copied = consumer(&self.channel, &copies).await;
        let also = AMQPValue::FieldArray(FieldArray::from(vec![text(&copies)]));
        let properties_with_copy = with_headers(&[(header, also)]);
        self.send(&operation::cast(7), &properties_with_copy).await;
        let delivery = self.next().await;
        let mark = publish(&self.channel, &copies, &operation::cast(8), properties()).await;
        assert!(mark.is_some());
        for expected in [7, 8] {
            let copy = in_time("a copy comes", copied.next())
                .await
                .unwrap()
                .unwrap();
            copy.acker.ack(BasicAckOptions::default()).await.unwrap();
            assert_eq!(operation::number_of(&copy.data), Some(expected));
        }
        delivery
    }
}

async fn consumer(channel: &Channel, queue: &str) -> Consumer {
    channel
        .queue_declare(
            queue.into(),
            QueueDeclareOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    channel
        .basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap()
}

#[tokio::test]
async fn unchanged() {
    let mut bench = Bench::start().await;
    for (body, properties) in bodies() {
        bench.send(&body, &properties).await;
        let delivery = bench.next().await;
        assert!(
            delivery.data == body,
            "another body of {} bytes",
            body.len()
        );
        assert_eq!(delivery.properties, properties);
        assert_eq!(delivery.routing_key.as_str(), bench.service.topic());
    }
}

/// A header that the broker itself obeys, and takes off: the copy is made once, at the first
/// publishing.
#[tokio::test]
async fn without_a_blind_copy_of_its_own() {
    let mut bench = Bench::start().await;
    bench.one_copy("BCC").await;
}

/// A header that the broker obeys at each publishing, and leaves on: cinder-volume takes the message
/// from Q, because handing it over would make a second copy.
#[tokio::test]
async fn without_a_copy_of_its_own() {
    let mut bench = Bench::start().await;
    let taken = bench.one_copy("CC").await;
    assert_eq!(taken.routing_key.as_str(), bench.service.server_queue());
}

/// A name that is no UTF-8, which the daemon's AMQP library refuses together with the connection.
/// The message comes to cinder-volume while the daemon is away, and so do those around it.
#[tokio::test]
async fn even_if_the_library_chokes_on_it() {
    let url = SharedBroker::transport_url();
    let service = Service::unique();
    let cinder_volume = CinderVolume::start(Release::Latest, &url, &service).await;
    let daemon = Daemon::start(&url, &service, "");
    daemon.wait_for_log("serving beside").await;
    let (_connection, channel) = publisher(&SharedBroker::amqp_uri()).await.unwrap();
    let queue = service.server_queue();
    for number in [1, 2, 3] {
        if number == 2 {
            publish_with_a_strange_header(&queue, number).await;
        } else {
            publish(&channel, &queue, &operation::cast(number), properties())
                .await
                .unwrap();
        }
    }
    cinder_volume.wait_for_executed(3).await;
    daemon.wait_for_log("not connected").await;
    daemon.wait_for_log_from(4, "serving beside").await;
    let mut numbers = cinder_volume.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3]);
}

/// By Python's AMQP library, which encodes half a surrogate pair as it is told.
pub(super) async fn publish_with_a_strange_header(queue: &str, number: u64) {
    let program = "\
import sys, amqp
host, queue, body = sys.argv[1:]
connection = amqp.Connection(host, 'guest', 'guest')
connection.connect()
message = amqp.Message(body, application_headers={'\\udcff': 'x'}, content_type='application/json', content_encoding='utf-8')
connection.channel().basic_publish(message, '', queue)
connection.close()
";
    let url = SharedBroker::transport_url();
    let host = url.trim_end_matches('/').rsplit('@').next().unwrap();
    let body = String::from_utf8(operation::cast(number)).unwrap();
    let run = Command::new(Release::Latest.python().unwrap())
        .args(["-c", program, host, queue, &body])
        .output();
    let output = in_time("the message is sent", run).await.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
