//! A bare cinder-volume: consumes the topic queue T and the server queue Q and writes down the numbers.
//!
//! As cinder-volume does it declares both queues, fetches without limit at priority 0, and comes
//! back after whatever ends its connection. It answers calls, those for progress with an exception.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::select;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, Connection, ConnectionProperties, Consumer};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::load::{properties, publish};
use super::operation::{is_progress_call, number_of, reply};
use super::service::Service;
use super::wait::in_time;

/// Before the next try to connect.
const RETRY: Duration = Duration::from_millis(100);

/// A broker that is silent for so long is tried again.
const SILENCE: Duration = Duration::from_secs(5);

/// What the queues are declared with.
#[derive(Clone, Debug, Default)]
pub struct Queues {
    durable: bool,
    auto_delete: bool,
    topic_arguments: FieldTable,
    arguments: FieldTable,
    prefetch: u16,
}

impl Queues {
    /// oslo.messaging's default.
    pub fn transient() -> Self {
        Self::default()
    }

    /// `amqp_durable_queues`.
    pub fn durable() -> Self {
        Self {
            durable: true,
            ..Self::default()
        }
    }

    /// `rabbit_quorum_queue`.
    pub fn quorum() -> Self {
        Self::durable().with("x-queue-type", text("quorum"))
    }

    /// `amqp_auto_delete`.
    pub fn auto_delete() -> Self {
        Self {
            auto_delete: true,
            ..Self::default()
        }
    }

    /// With one more argument for both queues.
    pub fn with(mut self, name: &str, value: AMQPValue) -> Self {
        self.arguments.insert(name.into(), value.clone());
        self.topic_arguments.insert(name.into(), value);
        self
    }

    /// T holds no more than `messages` and refuses what is beyond; its consumer holds one.
    pub fn topic_limited_to(mut self, messages: i32) -> Self {
        let limit = &mut self.topic_arguments;
        limit.insert("x-max-length".into(), messages.into());
        limit.insert("x-overflow".into(), text("reject-publish"));
        self.prefetch = 1;
        self
    }
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

/// The queue on which a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// T.
    Topic,
    /// Q.
    Server,
}

/// One message that came.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its number; none for what is no operation.
    pub number: Option<u64>,
    /// On which queue.
    pub via: Via,
    /// Whether the broker says that it may have come before on this queue.
    pub redelivered: bool,
    /// When.
    pub at: Instant,
}

/// The consumer, while it runs, and all that has come so far.
pub struct Recorder {
    shared: Arc<Shared>,
    task: Option<AbortOnDropHandle<()>>,
}

struct Shared {
    uri: String,
    service: Service,
    queues: Mutex<Queues>,
    records: Mutex<Vec<Record>>,
    count: watch::Sender<usize>,
    stuck: watch::Sender<bool>,
    consuming: watch::Sender<bool>,
}

impl Recorder {
    /// Starts it, and waits until it consumes.
    pub async fn start(amqp_uri: &str, service: &Service, queues: Queues) -> Self {
        let mut recorder = Self::prepare(amqp_uri, service, queues);
        recorder.start_again().await;
        recorder
    }

    /// One that has not been started yet.
    pub fn prepare(amqp_uri: &str, service: &Service, queues: Queues) -> Self {
        let shared = Shared {
            uri: amqp_uri.to_owned(),
            service: service.clone(),
            queues: Mutex::new(queues),
            records: Mutex::default(),
            count: watch::Sender::new(0),
            stuck: watch::Sender::new(false),
            consuming: watch::Sender::new(false),
        };
        Self {
            shared: Arc::new(shared),
            task: None,
        }
    }

    /// Starts it after [`Recorder::stop`] or [`Recorder::prepare`].
    pub async fn start_again(&mut self) {
        let task = tokio::spawn(Arc::clone(&self.shared).run());
        self.task = Some(AbortOnDropHandle::new(task));
        self.wait_for_consumers().await;
    }

    /// Waits until it consumes both queues.
    pub async fn wait_for_consumers(&self) {
        let mut consuming = self.shared.consuming.subscribe();
        in_time("the recorder consumes", consuming.wait_for(|yes| *yes))
            .await
            .unwrap();
    }

    /// Ends it at once, connection and all.
    pub async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
        self.shared.consuming.send_replace(false);
    }

    /// Declares differently at the next start.
    pub fn declare(&self, queues: Queues) {
        *self.shared.queues.lock().unwrap() = queues;
    }

    /// While stuck it consumes but takes nothing and acknowledges nothing.
    pub fn stuck(&self, stuck: bool) {
        self.shared.stuck.send_replace(stuck);
    }

    /// All that has come so far.
    pub fn records(&self) -> Vec<Record> {
        self.shared.records.lock().unwrap().clone()
    }

    /// The highest number so far.
    pub fn highest(&self) -> u64 {
        let records = self.shared.records.lock().unwrap();
        records
            .iter()
            .filter_map(|record| record.number)
            .max()
            .unwrap_or(0)
    }

    /// How many messages have come so far, by way of `via`.
    pub fn count(&self, via: Via) -> usize {
        let records = self.shared.records.lock().unwrap();
        records.iter().filter(|record| record.via == via).count()
    }

    /// Waits until `more` further messages have come.
    pub async fn wait_for_more(&self, more: usize) {
        let mut count = self.shared.count.subscribe();
        let goal = *count.borrow() + more;
        let what = format!("{more} further messages come");
        in_time(&what, count.wait_for(|count| *count >= goal))
            .await
            .unwrap();
    }

    /// Waits until the broker has given back, by way of `via`, what a consumer had in hand.
    pub async fn wait_for_one_given_back(&self, via: Via) {
        let mut count = self.shared.count.subscribe();
        let what = format!("something is given back by way of {via:?}");
        let given_back = |record: &Record| record.via == via && record.redelivered;
        let search = count.wait_for(|_| self.records().iter().any(given_back));
        in_time(&what, search).await.unwrap();
    }

    /// Waits until the broker gives back once more, on Q, what a consumer had in hand.
    pub async fn wait_for_one_more_given_back(&self) {
        let given_back = || {
            self.records()
                .iter()
                .filter(|record| record.redelivered)
                .count()
        };
        let before = given_back();
        let mut count = self.shared.count.subscribe();
        let search = count.wait_for(|_| given_back() > before);
        in_time("something more is given back", search)
            .await
            .unwrap();
    }

    /// Waits until messages come by way of `via`, one more than now.
    pub async fn wait_for_one_via(&self, via: Via) {
        let before = self.count(via);
        let mut count = self.shared.count.subscribe();
        let what = format!("a message comes by way of {via:?}");
        in_time(&what, count.wait_for(|_| self.count(via) > before))
            .await
            .unwrap();
    }
}

impl Shared {
    async fn run(self: Arc<Self>) {
        loop {
            // Nothing is to be done about an error but to come back.
            let _ = self.consume_until_it_ends().await;
            self.consuming.send_replace(false);
            sleep(RETRY).await;
        }
    }

    async fn consume_until_it_ends(&self) -> lapin::Result<()> {
        let Ok(opened) = timeout(SILENCE, self.open()).await else {
            return Ok(());
        };
        let Opened {
            connection,
            topic,
            server,
            replies,
        } = opened?;
        self.consuming.send_replace(true);
        let mut both = select(
            topic
                .map(|delivery| Some((Via::Topic, delivery)))
                .chain(end()),
            server
                .map(|delivery| Some((Via::Server, delivery)))
                .chain(end()),
        );
        let mut stuck = self.stuck.subscribe();
        loop {
            let _ = stuck.wait_for(|stuck| !*stuck).await;
            let next = tokio::select! {
                next = both.next() => next,
                () = end_of(&connection) => return Ok(()),
            };
            let Some(Some((via, delivery))) = next else {
                return Ok(());
            };
            let delivery = delivery?;
            let _ = stuck.wait_for(|stuck| !*stuck).await;
            if let Some((reply_queue, reply)) = reply(&delivery.data) {
                // Confirmed, so that what is recorded has been answered.
                let sent = publish(&replies, &reply_queue, &reply, properties());
                if !matches!(timeout(SILENCE, sent).await, Ok(Some(_))) {
                    return Ok(());
                }
            }
            self.record(via, &delivery);
            let written = delivery.acker.ack(BasicAckOptions::default());
            let Ok(written) = timeout(SILENCE, written).await else {
                return Ok(());
            };
            written?;
        }
    }

    fn record(&self, via: Via, delivery: &Delivery) {
        // A progress call is no operation, and not everyone's to answer.
        if is_progress_call(&delivery.data) {
            return;
        }
        let record = Record {
            number: number_of(&delivery.data),
            via,
            redelivered: delivery.redelivered,
            at: Instant::now(),
        };
        // Unlocked before anyone is told: who hears of it wants to read.
        self.records.lock().unwrap().push(record);
        self.count.send_modify(|count| *count += 1);
    }

    async fn open(&self) -> lapin::Result<Opened> {
        let queues = self.queues.lock().unwrap().clone();
        let connection = Connection::connect(&self.uri, ConnectionProperties::default()).await?;
        // A channel each, as oslo.messaging's two listeners have.
        let channel = connection.create_channel().await?;
        let (topic, server) = (self.service.topic(), self.service.server_queue());
        let topic = consume(&channel, &topic, &queues, &queues.topic_arguments).await?;
        let channel = connection.create_channel().await?;
        let server = consume(&channel, &server, &queues, &queues.arguments).await?;
        let replies = connection.create_channel().await?;
        replies
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(Opened {
            connection,
            topic,
            server,
            replies,
        })
    }
}

/// lapin does not always end what waits on a connection that has ended.
async fn end_of(connection: &Connection) {
    while connection.status().connected() {
        sleep(RETRY).await;
    }
}

/// What the bare cinder-volume works with.
struct Opened {
    connection: Connection,
    topic: Consumer,
    server: Consumer,
    replies: Channel,
}

/// Makes the end of one stream visible though the other goes on.
fn end<T>() -> impl futures_util::Stream<Item = Option<T>> {
    futures_util::stream::iter([None])
}

async fn consume(
    channel: &Channel,
    queue: &str,
    queues: &Queues,
    arguments: &FieldTable,
) -> lapin::Result<Consumer> {
    let options = QueueDeclareOptions {
        durable: queues.durable,
        auto_delete: queues.auto_delete,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.into(), options, arguments.clone())
        .await?;
    channel
        .basic_qos(queues.prefetch, BasicQosOptions::default())
        .await?;
    channel
        .basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
}
