//! A steady load of numbered operations on a queue, each confirmed by the broker.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::operation;
use super::wait::{PATIENCE, in_time};

/// Between two operations: some 300 a second.
pub const STEADY: Duration = Duration::from_millis(3);

/// Before the next try, where the broker or the queue is away.
const RETRY: Duration = Duration::from_millis(50);

/// A broker that is silent for so long is tried again.
const SILENCE: Duration = Duration::from_secs(5);

/// A task that publishes until it is told to stop, with new connections as need be.
pub struct Load {
    stop: CancellationToken,
    sent: watch::Receiver<u64>,
    task: JoinHandle<Sent>,
}

/// What the broker has said about each operation.
#[derive(Debug, Default)]
pub struct Sent {
    /// Confirmed to be on the queue, and when it was published.
    pub accepted: BTreeMap<u64, Instant>,
    /// Published, but the connection ended before the confirmation came: there or not.
    pub doubtful: BTreeSet<u64>,
}

impl Load {
    /// Starts with number 0.
    pub fn start(amqp_uri: &str, queue: &str, pause: Duration) -> Self {
        let stop = CancellationToken::new();
        let (count, sent) = watch::channel(0);
        let source = Source {
            uri: amqp_uri.to_owned(),
            queue: queue.to_owned(),
            sent: Sent::default(),
            next: 0,
            count,
        };
        let task = tokio::spawn(source.run(pause, stop.clone()));
        Self { stop, sent, task }
    }

    /// Waits until `more` further operations have been sent.
    pub async fn wait_for_more(&self, more: u64) {
        let mut sent = self.sent.clone();
        let goal = *sent.borrow() + more;
        let what = format!("{more} further operations are sent");
        in_time(&what, sent.wait_for(|count| *count >= goal))
            .await
            .unwrap();
    }

    /// Operations sent up to now.
    pub fn count(&self) -> u64 {
        *self.sent.borrow()
    }

    /// Ends it, and says what was sent.
    pub async fn finish(self) -> Sent {
        self.stop.cancel();
        in_time("the load ends", self.task).await.unwrap()
    }
}

struct Source {
    uri: String,
    queue: String,
    sent: Sent,
    next: u64,
    count: watch::Sender<u64>,
}

impl Source {
    async fn run(mut self, pause: Duration, stop: CancellationToken) -> Sent {
        let mut ticks = interval(pause);
        while !stop.is_cancelled() {
            let Some((_connection, channel)) = publisher(&self.uri).await else {
                sleep(RETRY).await;
                continue;
            };
            while !stop.is_cancelled() {
                ticks.tick().await;
                // One in flight: with several, lapin may hand a returned message to the wrong one.
                if !self.send(&channel).await {
                    break;
                }
            }
        }
        self.sent
    }

    /// Sends the next one; false when the connection is of no more use.
    async fn send(&mut self, channel: &Channel) -> bool {
        let at = Instant::now();
        let body = operation::cast(self.next);
        match publish(channel, &self.queue, &body, properties()).await {
            Some(Confirmation::Ack(None)) => {
                self.sent.accepted.insert(self.next, at);
            }
            // The queue is not there, and the number goes to the next one that is.
            Some(Confirmation::Ack(Some(_))) => {
                sleep(RETRY).await;
                return true;
            }
            Some(_) => {
                self.sent.doubtful.insert(self.next);
            }
            None => {
                self.sent.doubtful.insert(self.next);
                self.next += 1;
                return false;
            }
        }
        self.next += 1;
        self.count.send_replace(self.next);
        true
    }
}

/// A connection and a channel with confirms, or nothing where the broker is away.
pub async fn publisher(uri: &str) -> Option<(Connection, Channel)> {
    let opening = async {
        let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok::<_, lapin::Error>((connection, channel))
    };
    timeout(SILENCE, opening).await.ok()?.ok()
}

/// Publishes to a queue and waits for the broker's word, or nothing when the connection is gone.
pub async fn publish(
    channel: &Channel,
    queue: &str,
    body: &[u8],
    properties: BasicProperties,
) -> Option<Confirmation> {
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let publishing = async {
        let publishing = channel.basic_publish("".into(), queue.into(), options, body, properties);
        publishing.await?.await
    };
    timeout(PATIENCE, publishing).await.ok()?.ok()
}

/// Those of every cast of oslo.messaging.
pub fn properties() -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_delivery_mode(2)
        .with_priority(0)
}
