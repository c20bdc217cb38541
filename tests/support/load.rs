//! A steady load of numbered operations on a queue, each confirmed by the broker: casts, calls that
//! want their result, and progress calls in between.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::answers::{Answer, Answers};
use super::operation;
use super::service::{Service, unique_name};
use super::wait::{PATIENCE, in_time};

/// Between two operations: some 300 a second.
pub const STEADY: Duration = Duration::from_millis(3);

/// One in so many operations is a call, and between so many there is a progress call.
const CALLS: u64 = 10;

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
    /// Those of the accepted that are calls, and whose caller could get the answer all the time.
    pub calls: BTreeSet<u64>,
    /// The `_msg_id` of each progress call whose caller could get the answer all the time.
    pub progress_calls: BTreeSet<String>,
    /// What was answered, and still may be as long as this is kept.
    pub answers: Answers,
    connection: Option<Connection>,
}

impl Sent {
    /// Calls without their real result.
    pub fn unanswered(&self) -> Vec<u64> {
        let numbers = self.calls.iter().copied();
        numbers
            .filter(|number| !self.is_answered(*number))
            .collect()
    }

    fn is_answered(&self, number: u64) -> bool {
        let answer = self.answers.to(&operation::call_id(number));
        answer == Some(Answer::Result(operation::result(number)))
    }

    /// What can no longer be answered because the reply queue went with the connection does not count.
    fn forget_unanswered(&mut self) {
        let Self {
            calls,
            progress_calls,
            answers,
            ..
        } = self;
        calls.retain(|number| answers.to(&operation::call_id(*number)).is_some());
        progress_calls.retain(|msg_id| answers.to(msg_id).is_some());
    }
}

impl Load {
    /// Starts with number 0.
    pub fn start(amqp_uri: &str, service: &Service, pause: Duration) -> Self {
        let stop = CancellationToken::new();
        let (count, sent) = watch::channel(0);
        let source = Source {
            uri: amqp_uri.to_owned(),
            service: service.clone(),
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
    service: Service,
    sent: Sent,
    next: u64,
    count: watch::Sender<u64>,
}

impl Source {
    async fn run(mut self, pause: Duration, stop: CancellationToken) -> Sent {
        let mut ticks = interval(pause);
        while !stop.is_cancelled() {
            let Some((connection, channel)) = publisher(&self.uri).await else {
                sleep(RETRY).await;
                continue;
            };
            let Some(reply_queue) = self.sent.answers.listen(&connection).await else {
                continue;
            };
            while !stop.is_cancelled() {
                ticks.tick().await;
                // One in flight: with several, lapin may hand a returned message to the wrong one.
                if !self.send(&channel, &reply_queue).await {
                    self.sent.forget_unanswered();
                    break;
                }
            }
            self.sent.connection = Some(connection);
        }
        self.sent
    }

    /// Sends the next one; false when the connection is of no more use.
    async fn send(&mut self, channel: &Channel, reply_queue: &str) -> bool {
        let number = self.next;
        let at = Instant::now();
        let is_call = number.is_multiple_of(CALLS);
        let body = if is_call {
            operation::call(number, reply_queue)
        } else {
            operation::cast(number)
        };
        let queue = self.service.server_queue();
        match publish(channel, &queue, &body, properties()).await {
            Some(Confirmation::Ack(None)) => {
                self.sent.accepted.insert(number, at);
                if is_call {
                    self.sent.calls.insert(number);
                }
            }
            // The queue is not there, and the number goes to the next one that is.
            Some(Confirmation::Ack(Some(_))) => {
                sleep(RETRY).await;
                return true;
            }
            Some(_) => {
                self.sent.doubtful.insert(number);
            }
            None => {
                self.sent.doubtful.insert(number);
                self.next += 1;
                return false;
            }
        }
        self.next += 1;
        self.count.send_replace(self.next);
        if number % CALLS == CALLS / 2 {
            return self.ask(channel, reply_queue).await;
        }
        true
    }

    /// Sends a progress call; false when the connection is of no more use.
    async fn ask(&mut self, channel: &Channel, reply_queue: &str) -> bool {
        let msg_id = unique_name("progress");
        let body = operation::progress_call(&self.service, &msg_id, reply_queue);
        let queue = self.service.server_queue();
        let confirmation = publish(channel, &queue, &body, properties()).await;
        if let Some(Confirmation::Ack(None)) = confirmation {
            self.sent.progress_calls.insert(msg_id);
        }
        confirmation.is_some()
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
