//! Sidecar: keep what is ours, hand everything else over to cinder-volume, unchanged and in order.
//!
//! **Goal.** Q is the queue on which cinder-api addresses this node's cinder-volume; T is the
//! topic queue that the same cinder-volume serves with the same endpoints. While we consume Q,
//! every operation that arrives there must reach T exactly once, in order, and promptly; when we
//! die, at whatever instant, it must be on Q or on T, never on both, never on neither.
//!
//! **The rule.** What is in hand becomes one AMQP transaction: publish each message to T, acknowledge
//! all, commit. Nothing happens on the broker before the commit, and all of it happens then.
//!
//! **What a transaction does not do.** It acknowledges even if T is gone: the broker returns the
//! message and the original is no more. And if T is full and set to reject, the commit fails
//! *after* it has acknowledged, without saying which messages were refused. Therefore T is looked
//! up before every commit and must have a consumer and hardly any backlog: then it is neither gone
//! nor full. If it is not so, the channel is closed, which undoes the transaction and puts
//! everything in hand back in its old place on Q, and we stand aside: while we do not consume Q,
//! cinder-volume gets it all as if we had never been there. A message that is returned or refused
//! all the same is published to Q again, confirmed, before anything else; and so that a refusal
//! is never about more than one message, transactions start with one and grow only while T is
//! seen empty after each. Nor is it so if the broker takes its time to answer: what waits in our hands for it
//! would be delayed.
//!
//! **Standing aside is the answer to everything.** A message that the broker will not take from
//! us, a channel error, a cancelled consumer: we let go and come back later.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt, join, poll};
use lapin::message::{BasicReturnMessage, Delivery};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Consumer};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::connection::backoff::Backoff;
use super::connection::{Connection, ConnectionError};
use super::message::{Fate, Message};
use super::metrics::Counters;
use super::topology::{Names, Standing, is_missing, is_partial};
use crate::liveness::{Doing, Part, Role, Vitals};

/// Looking queues up while serving, within a time limit.
pub mod probe;
/// Why a backend's queue is not consumed for a while.
mod stand_aside;

use probe::Probe;
use stand_aside::Aside;

/// Messages that may wait on T while we still hand over to it.
///
/// cinder-volume fetches without limit, so T is all but empty while it lives. A backlog means
/// that it does not keep up, and then a message is as well off on Q, from which cinder-volume
/// takes it too. The bound also keeps us away from a limit on T's length (`x-max-length` by
/// policy), which no client can see.
pub const BACKLOG: u32 = 16;

/// Messages of one transaction at most; also the most that a limit on T's length could catch
/// unawares.
const WINDOW: usize = 16;

/// What a look at T must find.
#[derive(Clone, Copy)]
struct Demand {
    /// Messages on it at most.
    backlog: u32,
    /// How long the broker may take to answer. A message waits in our hands for two answers; with
    /// a broker that is far away or overloaded it is better off on Q.
    answer: Duration,
}

/// Before we consume Q. Lower than what is demanded afterwards, so that a spell of serving moves
/// some messages and they do not go to and fro: quorum queues count how often one comes back.
const ENTER: Demand = Demand {
    backlog: 0,
    answer: Duration::from_millis(300),
};

/// Before each commit.
const STAY: Demand = Demand {
    backlog: BACKLOG,
    answer: Duration::from_secs(1),
};

/// How long the backlog of T may take to shrink before we stand aside.
const BACKLOG_PATIENCE: Duration = Duration::from_millis(200);

/// Between two looks at a backlog.
const BACKLOG_PAUSE: Duration = Duration::from_millis(5);

/// How long everything is held here when a consumer of T has left.
///
/// cinder-volume reads T with two connections. When it stops it closes them one after the other,
/// up to a second apart, and oslo.messaging 18.3 acknowledges and drops what still arrives on the
/// later one, from T as from Q.
const LEAVING: Duration = Duration::from_secs(2);

/// Between two looks at whether the rest has left as well.
const LEAVING_PAUSE: Duration = Duration::from_millis(20);

/// Messages held at most meanwhile, besides those in hand.
const HELD: u16 = 512;

/// First, further and longest wait of standing aside. Long enough for cinder-volume to take a
/// message that we cannot handle, short enough that progress calls are answered soon after a
/// restart of cinder-volume.
const ASIDE: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_millis(250),
    Duration::from_secs(2),
];

/// The wait after the broker was slow: what is handed over soon after would be delayed again.
const SLOW: Duration = Duration::from_secs(3);

/// A serving time after which trouble counts as new.
const GOOD_SPELL: Duration = Duration::from_secs(10);

/// How Q is consumed.
#[derive(Debug, Clone)]
pub struct Manner {
    /// `x-priority` of our consumer; cinder-volume's is 0.
    pub priority: i32,
    /// Messages in hand at most. A daemon that hangs can hold up no more than these.
    pub prefetch: u16,
    /// Further arguments of our consumer.
    pub arguments: FieldTable,
}

/// The hand-over of one backend. Outlives connections, because a message that was returned by
/// the broker and could not be put back yet is in nobody else's hands.
#[derive(Debug)]
pub struct HandOver {
    names: Arc<Names>,
    manner: Manner,
    homeless: VecDeque<Homeless>,
    /// Consumers that T has had since we serve.
    seats: u32,
}

/// What a hand-over works with on one connection.
pub struct Shift<'a, T> {
    /// The connection.
    pub connection: &'a Connection,
    /// Decides about each message; must not block: operations wait behind it.
    pub take: &'a T,
    /// Where it is counted.
    pub counters: &'a Counters,
    /// Where it shows that it is at work.
    pub vitals: &'a Vitals,
    /// Ends it.
    pub stop: &'a CancellationToken,
}

/// The channels of one spell of serving.
struct Channels {
    /// Consumes Q and publishes to T, in transactions.
    work: Channel,
    /// Asks about queues.
    probe: Probe,
}

impl Channels {
    async fn open(connection: &Connection) -> Result<Self, ConnectionError> {
        Ok(Self {
            work: connection.channel().await?,
            probe: Probe::open(connection).await?,
        })
    }

    async fn close(self) {
        probe::close(&self.work).await;
        self.probe.close().await;
    }
}

/// A message that T did not take any more, on its way back to Q.
#[derive(Debug)]
struct Homeless {
    properties: BasicProperties,
    body: Vec<u8>,
}

impl From<BasicReturnMessage> for Homeless {
    fn from(returned: BasicReturnMessage) -> Self {
        Self {
            properties: returned.delivery.properties,
            body: returned.delivery.data,
        }
    }
}

impl HandOver {
    /// For the backend with these names.
    #[must_use]
    pub fn new(names: Names, manner: Manner) -> Self {
        Self {
            names: Arc::new(names),
            manner,
            homeless: VecDeque::new(),
            seats: 0,
        }
    }

    /// The names it was made with.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Serves Q until told to stop or until the connection ends.
    ///
    /// # Errors
    ///
    /// When the connection has ended. Everything else is waited out here.
    ///
    /// Not cancel-safe while the connection lives: dropped while it puts a message back, the message
    /// may be on Q twice.
    pub async fn run<T>(&mut self, on: &Shift<'_, T>) -> Result<(), ConnectionError>
    where
        T: Fn(Message<'_>) -> Fate + Sync,
    {
        let mut backoff = Backoff::new(ASIDE[0], ASIDE[1], ASIDE[2]);
        let mut said = String::new();
        let part = on.vitals.part(
            Role::Queue(self.names.server.clone()),
            Some(on.connection.alarm()),
        );
        loop {
            part.beat();
            let since = Instant::now();
            let aside = match self.serve(on, &part, &mut said).await {
                Ok(()) => return Ok(()),
                Err(aside) => aside,
            };
            if on.connection.has_ended() {
                return Err(ConnectionError::Ended);
            }
            let reason = aside.reason();
            on.counters.stood_aside.of(reason).add(1);
            let cause = aside.to_string();
            if said != cause {
                warn!(queue = %self.names.server, %cause, "standing aside");
                said.clone_from(&cause);
            }
            if since.elapsed() >= GOOD_SPELL {
                backoff.reset();
            }
            let wait = match aside {
                Aside::Slow(_) => SLOW,
                _ => backoff.wait(),
            };
            part.does(match aside {
                Aside::Missing(_) => Doing::Waiting(cause),
                _ => Doing::Aside(reason, cause),
            });
            tokio::select! {
                // Not while messages are in nobody else's hands: the daemon's own time limit ends it.
                () = on.stop.cancelled(), if self.homeless.is_empty() => return Ok(()),
                () = on.connection.ended() => return Err(ConnectionError::Ended),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Serves Q until `stop`, or says why we must stand aside. The channel is closed either way.
    async fn serve<T>(
        &mut self,
        on: &Shift<'_, T>,
        part: &Part,
        said: &mut String,
    ) -> Result<(), Aside>
    where
        T: Fn(Message<'_>) -> Fate + Sync,
    {
        self.put_back(on, part).await?;
        let channels = Channels::open(on.connection).await?;
        let mut served = self.serve_on(&channels, on, part, said).await;
        if let Err(Aside::Leaving(_)) = served {
            served = self.hold(&channels, on).await.and(served);
        }
        // Whatever is still in hand goes back to its old place on Q now, not when the broker
        // notices that we are gone.
        channels.close().await;
        // Even on stop: nobody else has these.
        self.put_back(on, part).await?;
        served
    }

    async fn serve_on<T>(
        &mut self,
        channels: &Channels,
        on: &Shift<'_, T>,
        part: &Part,
        said: &mut String,
    ) -> Result<(), Aside>
    where
        T: Fn(Message<'_>) -> Fate + Sync,
    {
        find(&channels.probe, &self.names.server, ENTER.answer).await?;
        self.seats = 0;
        self.ready(&channels.probe, ENTER).await?;
        let work = &channels.work;
        work.basic_qos(self.manner.prefetch, BasicQosOptions::default())
            .await?;
        work.tx_select().await?;
        let mut consumer = self.consume(work).await?;
        info!(queue = %self.names.server, target = %self.names.topic, "serving beside cinder-volume");
        said.clear();
        part.does(Doing::Serving);
        let mut window = 1;
        loop {
            part.beat();
            let first = match consumer.next().now_or_never() {
                Some(first) => first,
                None => {
                    // Nothing waits: what comes next starts small again.
                    window = 1;
                    tokio::select! {
                        biased;
                        () = on.stop.cancelled() => return Ok(()),
                        () = on.connection.ended() => return Err(ConnectionError::Ended.into()),
                        first = consumer.next() => first,
                        () = part.idle() => continue,
                    }
                }
            };
            let mut in_hand = vec![judged(self.delivered(first)?, on.take)];
            // The end of a stream is told once: it must not be lost among what came before it.
            let mut end = None;
            while in_hand.len() < usize::from(self.manner.prefetch) {
                match consumer.next().now_or_never() {
                    Some(Some(Ok(delivery))) => in_hand.push(judged(delivery, on.take)),
                    Some(ended) => {
                        end = Some(ended);
                        break;
                    }
                    None => break,
                }
            }
            self.settle(channels, &in_hand, &mut window, part, on.counters)
                .await?;
            if let Some(end) = end {
                self.delivered(end)?;
            }
            if on.stop.is_cancelled() {
                return Ok(());
            }
        }
    }

    async fn consume(&self, channel: &Channel) -> Result<Consumer, lapin::Error> {
        let mut arguments = self.manner.arguments.clone();
        arguments.insert("x-priority".into(), self.manner.priority.into());
        channel
            .basic_consume(
                self.names.server.as_str().into(),
                "".into(),
                BasicConsumeOptions::default(),
                arguments,
            )
            .await
    }

    fn delivered(&self, next: Option<lapin::Result<Delivery>>) -> Result<Delivery, Aside> {
        match next {
            Some(delivery) => Ok(delivery?),
            None => Err(Aside::Cancelled(self.names.server.clone())),
        }
    }

    /// Settles all that is in hand, in order, in as few transactions as is safe.
    ///
    /// `window` is how many messages the next transaction may hand over.
    async fn settle(
        &mut self,
        channels: &Channels,
        in_hand: &[(Delivery, Fate)],
        window: &mut usize,
        part: &Part,
        counters: &Counters,
    ) -> Result<(), Aside> {
        let work = &channels.work;
        let mut rest = in_hand;
        while !rest.is_empty() {
            part.beat();
            let (now, later) = if !rest.iter().any(is_theirs) {
                prepare(work, &self.names, rest).await?;
                rest.split_at(rest.len())
            } else if *window == 1 {
                // Whatever the look-up says, this transaction is the same: it is filled while the
                // answer is on its way, and stays without effect until the commit, which waits for it.
                let split = rest.split_at(reach(rest, 1));
                let names = Arc::clone(&self.names);
                let (ready, prepared) = join!(
                    self.ready(&channels.probe, STAY),
                    prepare(work, &names, split.0)
                );
                ready?;
                prepared?;
                *window = 2;
                split
            } else {
                if self.ready(&channels.probe, STAY).await? > 0 {
                    *window = 1;
                }
                let split = rest.split_at(reach(rest, *window));
                *window = (*window * 2).min(WINDOW);
                prepare(work, &self.names, split.0).await?;
                split
            };
            let begun = Instant::now();
            self.commit(work, now, counters).await?;
            if begun.elapsed() > STAY.answer {
                return Err(Aside::Slow(STAY.answer));
            }
            rest = later;
        }
        Ok(())
    }

    /// Commits a transaction that has been filled with these messages.
    async fn commit(
        &mut self,
        channel: &Channel,
        messages: &[(Delivery, Fate)],
        counters: &Counters,
    ) -> Result<(), Aside> {
        let theirs = theirs(messages);
        // lapin sends publishes behind everything else: each of them was awaited, so that none
        // can fall behind the commit. And nothing may be sent before the commit is answered.
        let committed = channel.tx_commit().await;
        // On a channel without confirms this gathers what the broker returned, and waits for
        // nothing; returns arrive before the answer to the commit, and may have arrived though
        // the answer has not.
        let returned = channel.wait_for_confirms().await?;
        counters.returned.add(returned.len());
        let vanished = !returned.is_empty();
        let kept = theirs.len().saturating_sub(returned.len());
        self.homeless
            .extend(returned.into_iter().map(Homeless::from));
        if let Err(error) = committed {
            return Err(self.refused(&theirs, error, counters));
        }
        counters.handed_over.add(kept);
        debug!(queue = %self.names.topic, messages = kept, "handed over");
        if vanished {
            return Err(Aside::Vanished(self.names.topic.clone()));
        }
        Ok(())
    }

    /// The commit has failed.
    ///
    /// Nearly always the channel or connection has ended, and the broker has done all of the
    /// transaction or nothing: what it did not do is on Q still. But a queue that refuses a
    /// message (full, with `x-overflow` reject-publish, or its process just died) fails the
    /// transaction *after* the acknowledgements were carried out (RabbitMQ answers 406, "partial
    /// tx completion"). If there was one message it is that one, and it is ours to put back.
    fn refused(&mut self, theirs: &[&Delivery], error: lapin::Error, counters: &Counters) -> Aside {
        if !is_partial(&error) {
            return error.into();
        }
        let topic = &self.names.topic;
        if let [only] = theirs {
            counters.returned.add(1);
            self.homeless.push_back(Homeless {
                properties: only.properties.clone(),
                body: only.data.clone(),
            });
        } else {
            counters.in_doubt.add(theirs.len());
            error!(
                queue = %topic, messages = theirs.len(),
                "the broker refused some of these messages and does not say which: look for \
                 operations that never started"
            );
        }
        Aside::Refused(topic.clone())
    }

    /// Whether T can be handed over to: it is there, attended as before, no more waits on it than is
    /// demanded, and the broker says so in time. Says how much waits.
    async fn ready(&mut self, probe: &Probe, demand: Demand) -> Result<u32, Aside> {
        let topic = &self.names.topic;
        let patience = tokio::time::Instant::now() + BACKLOG_PATIENCE;
        loop {
            let standing = find(probe, topic, demand.answer).await?;
            debug!(queue = %topic, ready = standing.ready, consumers = standing.consumers, "looked up");
            if standing.consumers == 0 {
                return Err(Aside::Unattended(topic.clone()));
            }
            if standing.consumers < self.seats {
                return Err(Aside::Leaving(topic.clone()));
            }
            self.seats = standing.consumers;
            if standing.ready <= demand.backlog {
                return Ok(standing.ready);
            }
            if tokio::time::Instant::now() >= patience {
                return Err(Aside::Backlog(topic.clone()));
            }
            tokio::time::sleep(BACKLOG_PAUSE).await;
        }
    }

    /// Takes all that arrives on Q, and settles nothing, until the consumers of T are all gone or
    /// complete again. The closing of the channel gives it back.
    async fn hold<T>(&self, channels: &Channels, on: &Shift<'_, T>) -> Result<(), Aside> {
        let deadline = tokio::time::Instant::now() + LEAVING;
        let consume = async {
            // The limit is that of the next consumer; the first one keeps its own.
            let work = &channels.work;
            work.basic_qos(HELD, BasicQosOptions::default()).await?;
            self.consume(work).await
        };
        let Ok(consumer) = tokio::time::timeout_at(deadline, consume).await else {
            return Ok(());
        };
        let _held = consumer?;
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let consumers = match find(&channels.probe, &self.names.topic, left).await {
                Err(Aside::Slow(_)) => return Ok(()),
                found => found?.consumers,
            };
            if consumers == 0 || consumers >= self.seats {
                return Ok(());
            }
            tokio::select! {
                () = on.stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LEAVING_PAUSE) => {}
            }
        }
    }

    /// Publishes every homeless message to Q, confirmed one by one.
    ///
    /// On error the rest, the one in doubt included, stays here to be tried again.
    async fn put_back<T>(&mut self, on: &Shift<'_, T>, part: &Part) -> Result<(), Aside> {
        if self.homeless.is_empty() {
            return Ok(());
        }
        let channel = on.connection.channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let queue = &self.names.server;
        while let Some(message) = self.homeless.front() {
            part.beat();
            let confirmation = publish_one(&channel, queue, &message.properties, &message.body)
                .await?
                .await?;
            match confirmation {
                Confirmation::Ack(None) => {
                    self.homeless.pop_front();
                    on.counters.put_back.add(1);
                }
                Confirmation::Ack(Some(_)) => return Err(Aside::Missing(queue.clone())),
                Confirmation::Nack(_) | Confirmation::NotRequested => {
                    return Err(Aside::Vanished(queue.clone()));
                }
            }
        }
        warn!(queue = %queue, "returned messages are back on their queue");
        Ok(())
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        if !self.homeless.is_empty() {
            error!(
                queue = %self.names.server,
                messages = self.homeless.len(),
                "ending with messages that neither queue would take: they are lost"
            );
        }
    }
}

async fn find(probe: &Probe, queue: &str, limit: Duration) -> Result<Standing, Aside> {
    match probe.find(queue, limit).await {
        Ok(Some(standing)) => Ok(standing),
        Ok(None) => Err(Aside::Slow(limit)),
        Err(error) if is_missing(&error) => Err(Aside::Missing(queue.to_owned())),
        Err(error) => Err(error.into()),
    }
}

fn judged(delivery: Delivery, take: &impl Fn(Message<'_>) -> Fate) -> (Delivery, Fate) {
    let fate = take(Message::of(&delivery));
    (delivery, fate)
}

fn is_theirs((_, fate): &(Delivery, Fate)) -> bool {
    *fate == Fate::HandOver
}

fn theirs(messages: &[(Delivery, Fate)]) -> Vec<&Delivery> {
    messages
        .iter()
        .filter(|message| is_theirs(message))
        .map(|(delivery, _)| delivery)
        .collect()
}

/// RabbitMQ routes a message with a `CC` header to the queues it names, too, each time it is
/// published. (`BCC` is taken out on the way.) oslo.messaging sets neither.
fn asks_for_copies(delivery: &Delivery) -> bool {
    let headers = delivery.properties.headers().as_ref();
    headers.is_some_and(|headers| headers.inner().contains_key("CC"))
}

/// How far `window` messages of theirs reach, with ours before, between and behind them.
fn reach(messages: &[(Delivery, Fate)], window: usize) -> usize {
    let theirs = messages
        .iter()
        .enumerate()
        .filter(|(_, message)| is_theirs(message));
    theirs
        .map(|(at, _)| at)
        .nth(window)
        .unwrap_or(messages.len())
}

/// Fills a transaction: messages to T or to us, all off Q.
async fn prepare(
    channel: &Channel,
    names: &Names,
    messages: &[(Delivery, Fate)],
) -> Result<(), Aside> {
    let theirs = theirs(messages);
    if theirs.iter().any(|delivery| asks_for_copies(delivery)) {
        return Err(Aside::Copies(names.server.clone()));
    }
    publish(channel, &names.topic, &theirs).await?;
    if let Some((last, _)) = messages.last()
        && !last.acker.ack(BasicAckOptions { multiple: true }).await?
    {
        // Stale: it will come again. Committed now, the publishes would stand alone.
        return Err(Aside::Cancelled(names.server.clone()));
    }
    Ok(())
}

/// Publishes all to `queue` in order; returns when all are written to the socket.
async fn publish(
    channel: &Channel,
    queue: &str,
    deliveries: &[&Delivery],
) -> Result<(), lapin::Error> {
    let mut writing = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let mut write = Box::pin(publish_one(
            channel,
            queue,
            &delivery.properties,
            &delivery.data,
        ));
        // The first poll puts the frames in line: in this order, without waiting for each.
        match poll!(write.as_mut()) {
            std::task::Poll::Ready(written) => drop(written?),
            std::task::Poll::Pending => writing.push(write),
        }
    }
    for write in writing {
        drop(write.await?);
    }
    Ok(())
}

async fn publish_one(
    channel: &Channel,
    queue: &str,
    properties: &BasicProperties,
    body: &[u8],
) -> Result<lapin::PublisherConfirm, lapin::Error> {
    channel
        .basic_publish(
            "".into(),
            queue.into(),
            BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            },
            body,
            properties.clone(),
        )
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hand(fates: &str) -> Vec<(Delivery, Fate)> {
        fates
            .chars()
            .map(|fate| {
                let delivery = Delivery::mock(1, "".into(), "q".into(), false, vec![]);
                let fate = if fate == 't' {
                    Fate::HandOver
                } else {
                    Fate::Taken
                };
                (delivery, fate)
            })
            .collect()
    }

    #[test]
    fn a_window_counts_theirs_and_takes_ours_along() {
        for (hand_of, window, end) in [
            ("ttttt", 1, 1),
            ("ttttt", 4, 4),
            ("ttttt", 16, 5),
            ("oottot", 1, 3),
            ("otoo", 1, 4),
            ("oooo", 1, 4),
            ("t", 1, 1),
        ] {
            assert_eq!(reach(&hand(hand_of), window), end, "{hand_of} {window}");
        }
    }
}
