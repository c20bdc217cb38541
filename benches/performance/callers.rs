//! Many callers in one process, as in cinder-api: one connection, one reply queue, many calls at once.
//!
//! They speak oslo.messaging's wire with the body of a captured call, but do no more than they must, so that
//! they are not what is measured. To each server they are the same; besides, a call says in its AMQP
//! properties where to reply, for the floor, which reads no body.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::Value;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::support::environment::repository;
use crate::support::wait::in_time;

/// Ids of the captured call, each to be replaced.
const MSG_ID: &str = "ff40677989834f6696dfe3fe133080f1";
const UNIQUE_ID: &str = "8e51ef6c488f449eb9d3d9cc51e19f8c";
const REPLY_QUEUE: &str = "reply_143a11936ed243fea4440dfa5f70608e";
const VOLUME: &str = "b4d1c0de-0000-4000-8000-000000000001";
const SIZE: &str = r#"size\": 10,"#;

/// The callers' end of the wire. Cheap to clone.
#[derive(Clone)]
pub struct Callers(Arc<Inner>);

struct Inner {
    channel: Channel,
    reply_queue: String,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Delivery>>>,
    body: Vec<u8>,
    /// Where in the body the id of the call stands.
    ids: [usize; 2],
    _connection: Connection,
}

/// What a round of calls took.
pub struct Round {
    /// Of each call.
    pub latencies: Vec<Duration>,
    /// Of all.
    pub elapsed: Duration,
}

impl Callers {
    /// Connects; the calls will be about `volume`, which has 1 GiB.
    pub async fn connect(uri: &str, volume: &str) -> Self {
        let connection = Connection::connect(uri, ConnectionProperties::default())
            .await
            .unwrap();
        let channel = connection.create_channel().await.unwrap();
        let reply_queue = format!("reply_{}", Uuid::new_v4().simple());
        let options = QueueDeclareOptions::default();
        channel
            .queue_declare(reply_queue.as_str().into(), options, FieldTable::default())
            .await
            .unwrap();
        let options = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let mut replies = channel
            .basic_consume(
                reply_queue.as_str().into(),
                "".into(),
                options,
                FieldTable::default(),
            )
            .await
            .unwrap();
        let body = captured_call()
            .replace(REPLY_QUEUE, &reply_queue)
            .replace(VOLUME, volume)
            .replace(SIZE, r#"size\": 1,"#);
        let ids = [MSG_ID, UNIQUE_ID].map(|id| body.find(id).unwrap());
        let inner = Arc::new(Inner {
            channel,
            reply_queue,
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
            body: body.into_bytes(),
            ids,
            _connection: connection,
        });
        let weak = Arc::downgrade(&inner);
        tokio::spawn(async move {
            while let Some(Ok(reply)) = replies.next().await {
                let Some(inner) = weak.upgrade() else { return };
                let caller = inner.waiting.lock().unwrap().remove(&id_of(&reply));
                if let Some(caller) = caller {
                    let _ = caller.send(reply);
                }
            }
        });
        Self(inner)
    }

    /// One call to the server of `queue`; the body of its reply.
    pub async fn call(&self, queue: &str) -> Vec<u8> {
        let inner = &self.0;
        let id = inner.next.fetch_add(1, Ordering::Relaxed);
        let written = format!("{id:032x}");
        let mut body = inner.body.clone();
        for at in inner.ids {
            body[at..at + written.len()].copy_from_slice(written.as_bytes());
        }
        let (sender, reply) = oneshot::channel();
        inner.waiting.lock().unwrap().insert(id, sender);
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_delivery_mode(2)
            .with_priority(0)
            .with_expiration("60000".into())
            .with_reply_to(inner.reply_queue.as_str().into())
            .with_correlation_id(written.into());
        let options = BasicPublishOptions::default();
        let published =
            inner
                .channel
                .basic_publish("".into(), queue.into(), options, &body, properties);
        drop(published.await.unwrap());
        in_time("the call is answered", reply).await.unwrap().data
    }

    /// So many callers, each asking again as soon as it is answered, for as long as that.
    pub async fn ask_for(&self, queue: &str, callers: usize, time: Duration) -> Round {
        let begun = Instant::now();
        self.ask_while(queue, callers, || begun.elapsed() < time)
            .await
    }

    /// The same until there were so many calls.
    pub async fn ask_times(&self, queue: &str, callers: usize, calls: usize) -> Round {
        let left = AtomicU64::new(calls as u64);
        let more = || {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
        };
        self.ask_while(queue, callers, more).await
    }

    async fn ask_while(&self, queue: &str, callers: usize, more: impl Fn() -> bool) -> Round {
        let begun = Instant::now();
        let more = &more;
        let each = (0..callers).map(async |_| {
            let mut latencies = Vec::new();
            while more() {
                let asked = Instant::now();
                self.call(queue).await;
                latencies.push(asked.elapsed());
            }
            latencies
        });
        Round {
            latencies: join_all(each).await.concat(),
            elapsed: begun.elapsed(),
        }
    }
}

impl Round {
    /// Calls in a second.
    pub fn throughput(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }
}

fn captured_call() -> String {
    let path =
        repository().join("tests/fixtures/wire/call-get_migrate_volume_progress.latest.json");
    let captured: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    captured["body"].as_str().unwrap().to_owned()
}

/// Which call a reply answers, without reading all of it.
fn id_of(reply: &Delivery) -> u64 {
    if let Some(id) = reply.properties.correlation_id() {
        return u64::from_str_radix(id.as_str(), 16).unwrap();
    }
    let key = b"_msg_id";
    let after = reply.data.windows(key.len()).position(|part| part == key);
    let rest = &reply.data[after.unwrap() + key.len()..];
    let begin = rest.iter().position(u8::is_ascii_hexdigit).unwrap();
    let id = std::str::from_utf8(&rest[begin..begin + MSG_ID.len()]).unwrap();
    u64::from_str_radix(id, 16).unwrap()
}
