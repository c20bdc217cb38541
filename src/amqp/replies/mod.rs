//! Replies: confirmed, and patient with reply queues that are not there yet.
//!
//! A caller names the queue on which it waits. That queue can be missing for a moment (the
//! caller reconnects and declares it anew) or for good (the caller is gone). oslo.messaging
//! tries again every quarter of a second for `kombu_missing_consumer_retry_timeout` seconds and
//! then forgets about the queue for a minute. So does this, but with one message per queue and try,
//! so that a thousand replies to a dead caller cost no more than one.
//!
//! The returned message itself tells which message was returned: with several in flight,
//! lapin may hand a return to the confirmation of another.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::task::Poll;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, poll};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::outlet::Outlet;
use super::connection::{Connection, ConnectionError};
use super::metrics::Counters;
use crate::liveness::TaskHandle;

/// Whether replies can be sent.
mod outlet;

/// Between two tries on a missing reply queue, as in oslo.messaging (`_drivers/amqpdriver.py`).
const RETRY: Duration = Duration::from_millis(250);

/// How long a reply queue that stayed away is remembered as dead, as in oslo.messaging
/// (`ObsoleteReplyQueuesCache`).
const DEAD_FOR: Duration = Duration::from_secs(60);

/// Replies that wait to be sent at most; a caller that asks faster than the broker takes
/// answers gets no answer.
const CAPACITY: usize = 1024;

/// Reply queues remembered at most, missing and dead together.
const MEMORY: usize = 1024;

/// Replies in flight at most.
const IN_FLIGHT: usize = 128;

/// A reply on its way. Its `Debug` shows only its queue.
#[derive(Clone, PartialEq, Eq)]
pub struct OutgoingReply {
    /// The caller's reply queue.
    pub queue: String,
    /// The body, ready to send.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for OutgoingReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutgoingReply")
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

/// Takes replies to be sent. Cheap to clone; the publisher ends when all clones are gone.
#[derive(Debug, Clone)]
pub struct ReplySender {
    replies: mpsc::Sender<OutgoingReply>,
    outlet: Outlet,
}

impl ReplySender {
    /// Whether no reply could be sent for some seconds, for want of a connection. Calls had better be left to
    /// cinder-volume then.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.outlet.is_lost()
    }

    /// Takes a reply, or gives it back when too many wait already.
    ///
    /// # Errors
    ///
    /// The reply.
    pub fn send(&self, reply: OutgoingReply) -> Result<(), OutgoingReply> {
        self.replies.try_send(reply).map_err(|error| match error {
            mpsc::error::TrySendError::Full(reply) | mpsc::error::TrySendError::Closed(reply) => {
                reply
            }
        })
    }
}

/// The replies that the broker has not confirmed yet. Outlives connections.
#[derive(Debug)]
pub struct ReplyPublisher {
    replies: mpsc::Receiver<OutgoingReply>,
    /// To be sent now.
    ready: VecDeque<OutgoingReply>,
    /// Sent, in this order.
    unconfirmed: BTreeMap<u64, OutgoingReply>,
    next: u64,
    absent: MissingQueues,
    outlet: Outlet,
}

impl ReplyPublisher {
    /// A publisher and its sender. `patience` is `kombu_missing_consumer_retry_timeout`.
    #[must_use]
    pub fn new(patience: Duration) -> (ReplySender, Self) {
        let (sender, replies) = mpsc::channel(CAPACITY);
        let outlet = Outlet::closed();
        let publisher = Self {
            outlet: outlet.clone(),
            replies,
            ready: VecDeque::new(),
            unconfirmed: BTreeMap::new(),
            next: 0,
            absent: MissingQueues::new(patience),
        };
        (
            ReplySender {
                replies: sender,
                outlet,
            },
            publisher,
        )
    }

    /// Sends replies on `connection` until all senders are gone and everything is confirmed, or
    /// until `stop`.
    ///
    /// A reply whose confirmation was lost with the previous connection is sent again: a
    /// caller drops a second answer, but a first one that is missing costs it a time-out.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub async fn run(
        &mut self,
        connection: &Connection,
        counters: &Counters,
        task: &TaskHandle,
        stop: &CancellationToken,
    ) -> Result<(), ConnectionError> {
        let channel = connection.channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let open = self.outlet.open();
        let mut confirmations = FuturesUnordered::new();
        // In their order, and before what has not been sent yet: a heartbeat must not overtake the answer
        // that ends its call.
        for reply in std::mem::take(&mut self.unconfirmed).into_values().rev() {
            self.ready.push_front(reply);
        }
        self.absent.start_over(Instant::now());
        loop {
            task.heartbeat();
            while confirmations.len() < IN_FLIGHT
                && let Some(reply) = self.ready.pop_front()
            {
                let id = self.next;
                self.next += 1;
                self.unconfirmed.insert(id, reply.clone());
                let channel = &channel;
                let mut sending = Box::pin(async move { (id, publish(channel, &reply).await) });
                // The first poll queues the frames, in this order. Waiting until each is written would cost every
                // reply a turn of lapin's thread.
                match poll!(sending.as_mut()) {
                    Poll::Ready((id, confirmation)) => {
                        self.confirmed(id, confirmation?, counters);
                        open.confirmed();
                    }
                    Poll::Pending => confirmations.push(sending),
                }
            }
            let no_more = self.replies.is_closed() && self.replies.is_empty();
            if no_more && confirmations.is_empty() && self.ready.is_empty() {
                return Ok(());
            }
            let due = self.absent.due();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = connection.ended() => return Err(ConnectionError::Ended),
                Some((id, confirmation)) = confirmations.next() => {
                    // Unconfirmed until there is a confirmation: after an error it is sent again.
                    self.confirmed(id, confirmation?, counters);
                    open.confirmed();
                }
                () = task.idle() => {}
                () = sleep_until(due) => {
                    let (tries, dropped) = self.absent.retry(Instant::now());
                    counters.replies_dropped.inc_by(dropped as u64);
                    self.ready.extend(tries);
                }
                reply = self.replies.recv(), if !no_more && confirmations.len() < IN_FLIGHT => {
                    match reply.map(|reply| self.absent.admit(reply, Instant::now())) {
                        Some(Admission::Send(reply)) => self.ready.push_back(reply),
                        Some(Admission::Drop) => counters.replies_dropped.inc(),
                        // The last sender is gone: seen at the head of the loop.
                        Some(Admission::Wait) | None => {}
                    }
                }
            }
        }
    }

    /// Takes in what became of a reply.
    fn confirmed(&mut self, id: u64, confirmation: Confirmation, counters: &Counters) {
        let reply = self.unconfirmed.remove(&id);
        let bounced = match confirmation {
            Confirmation::Ack(None) => {
                counters.replies.inc();
                if let Some(reply) = &reply {
                    self.ready.extend(self.absent.arrived(reply));
                }
                return;
            }
            // Not necessarily the reply of this confirmation.
            Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
                Some(OutgoingReply {
                    queue: returned.delivery.routing_key.to_string(),
                    body: returned.delivery.data,
                })
            }
            // The broker could not store it: the same reply is tried again a moment later.
            Confirmation::Nack(None) | Confirmation::NotRequested => reply,
        };
        if let Some(reply) = bounced {
            let dropped = self.absent.bounced(reply, Instant::now());
            counters.replies_dropped.inc_by(dropped as u64);
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Publishes a reply and waits until the broker confirms or returns it.
async fn publish(channel: &Channel, reply: &OutgoingReply) -> Result<Confirmation, lapin::Error> {
    // The properties of every reply of every release; see the captured messages.
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_headers(FieldTable::default())
        .with_delivery_mode(2)
        .with_priority(0);
    channel
        .basic_publish(
            "".into(),
            reply.queue.as_str().into(),
            BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            },
            &reply.body,
            properties,
        )
        .await?
        .await
}

/// What to do with a reply that comes in.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Send(OutgoingReply),
    Wait,
    Drop,
}

/// The reply queues that are missing or dead.
#[derive(Debug)]
struct MissingQueues {
    patience: Duration,
    missing: HashMap<String, MissingQueue>,
    dead: HashMap<String, Instant>,
    /// Replies for all missing queues together.
    waiting: usize,
}

#[derive(Debug)]
struct MissingQueue {
    since: Instant,
    next_try: Instant,
    /// The first is the one that is tried.
    replies: VecDeque<OutgoingReply>,
}

impl MissingQueues {
    fn new(patience: Duration) -> Self {
        Self {
            patience,
            missing: HashMap::new(),
            dead: HashMap::new(),
            waiting: 0,
        }
    }

    /// A new connection: queues that were missing on the old one have their full time again.
    fn start_over(&mut self, now: Instant) {
        for missing in self.missing.values_mut() {
            missing.since = now;
            missing.next_try = now;
        }
    }

    fn admit(&mut self, reply: OutgoingReply, now: Instant) -> Admission {
        self.dead.retain(|_, since| now - *since < DEAD_FOR);
        if self.dead.contains_key(&reply.queue) {
            debug!(queue = %reply.queue, "the caller is gone: its reply is dropped");
            return Admission::Drop;
        }
        match self.missing.get_mut(&reply.queue) {
            None => Admission::Send(reply),
            Some(missing) if self.waiting < CAPACITY => {
                self.waiting += 1;
                missing.replies.push_back(reply);
                Admission::Wait
            }
            Some(_) => {
                warn!(queue = %reply.queue, replies = 1, "too many replies wait: a reply is dropped");
                Admission::Drop
            }
        }
    }

    /// Takes in that the broker has returned `reply`. Returns how many replies were dropped for it.
    fn bounced(&mut self, reply: OutgoingReply, now: Instant) -> usize {
        if self.dead.contains_key(&reply.queue) {
            warn!(queue = %reply.queue, replies = 1, "the caller is gone: its reply is dropped");
            return 1;
        }
        if self.waiting >= CAPACITY || self.missing.len() + self.dead.len() >= MEMORY {
            warn!(queue = %reply.queue, replies = 1, "too many replies wait: a reply is dropped");
            return 1;
        }
        self.waiting += 1;
        if let Some(missing) = self.missing.get_mut(&reply.queue) {
            missing.replies.push_front(reply);
            return 0;
        }
        debug!(queue = %reply.queue, "the reply queue is missing");
        self.missing.insert(
            reply.queue.clone(),
            MissingQueue {
                since: now,
                next_try: now + RETRY,
                replies: VecDeque::from([reply]),
            },
        );
        0
    }

    /// Takes in that the broker has taken `reply`: returns the replies that waited for its queue.
    fn arrived(&mut self, reply: &OutgoingReply) -> VecDeque<OutgoingReply> {
        let Some(missing) = self.missing.remove(&reply.queue) else {
            return VecDeque::new();
        };
        self.waiting -= missing.replies.len();
        missing.replies
    }

    fn due(&self) -> Option<Instant> {
        self.missing.values().map(|missing| missing.next_try).min()
    }

    /// One reply for each queue whose next try is due, and how many replies were dropped.
    fn retry(&mut self, now: Instant) -> (Vec<OutgoingReply>, usize) {
        let mut tries = Vec::new();
        let mut dropped = 0;
        let (dead, waiting, patience) = (&mut self.dead, &mut self.waiting, self.patience);
        self.missing.retain(|queue, missing| {
            if missing.next_try > now {
                return true;
            }
            if now - missing.since >= patience {
                dropped += missing.replies.len();
                *waiting -= missing.replies.len();
                warn!(%queue, replies = missing.replies.len(), "the caller is gone: its replies are dropped");
                dead.insert(queue.clone(), now);
                return false;
            }
            missing.next_try = now + RETRY;
            if let Some(reply) = missing.replies.pop_front() {
                *waiting -= 1;
                tries.push(reply);
            }
            true
        });
        (tries, dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(queue: &str, body: &str) -> OutgoingReply {
        OutgoingReply {
            queue: queue.into(),
            body: body.into(),
        }
    }

    #[test]
    fn a_missing_queue_is_tried_with_one_reply_until_it_is_there() {
        let mut absent = MissingQueues::new(Duration::from_secs(60));
        let now = Instant::now();
        let first = reply("q", "1");
        assert_eq!(absent.bounced(first.clone(), now), 0);
        assert_eq!(absent.admit(reply("q", "2"), now), Admission::Wait);
        assert_eq!(absent.retry(now).0, vec![]);
        let (tries, dropped) = absent.retry(now + RETRY);
        assert_eq!((tries, dropped), (vec![first.clone()], 0));
        assert_eq!(absent.bounced(first.clone(), now + RETRY), 0);
        let (tries, _) = absent.retry(now + 2 * RETRY);
        assert_eq!(tries, vec![first.clone()]);
        assert_eq!(absent.arrived(&first), VecDeque::from([reply("q", "2")]));
        assert_eq!(absent.due(), None);
    }

    #[test]
    fn a_caller_that_stays_away_costs_nothing_for_a_minute() {
        let mut absent = MissingQueues::new(Duration::from_secs(1));
        let now = Instant::now();
        absent.bounced(reply("q", "1"), now);
        absent.admit(reply("q", "2"), now);
        let later = now + Duration::from_secs(1);
        assert_eq!(absent.retry(later), (vec![], 2));
        assert_eq!(absent.admit(reply("q", "3"), later), Admission::Drop);
        assert_eq!(absent.due(), None);
        let much_later = later + DEAD_FOR;
        assert_eq!(
            absent.admit(reply("q", "4"), much_later),
            Admission::Send(reply("q", "4"))
        );
    }

    #[test]
    fn memory_is_bounded() {
        let mut absent = MissingQueues::new(Duration::from_secs(60));
        let now = Instant::now();
        for n in 0..MEMORY {
            assert_eq!(absent.bounced(reply(&format!("q{n}"), "1"), now), 0);
        }
        assert_eq!(absent.bounced(reply("one more", "1"), now), 1);
        assert_eq!(absent.admit(reply("q1", "2"), now), Admission::Drop);
        let (tries, dropped) = absent.retry(now + RETRY);
        assert_eq!((tries.len(), dropped, absent.waiting), (MEMORY, 0, 0));
    }
}
