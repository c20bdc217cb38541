//! Replies: confirmed, and patient with reply queues that are not there yet.
//!
//! A caller names the queue on which it waits. That queue can be missing for a moment (the
//! caller reconnects and declares it anew) or for good (the caller is gone). oslo.messaging
//! tries again every quarter of a second for `kombu_missing_consumer_retry_timeout` seconds and
//! then forgets about the queue for a minute; so do we, but with one message per queue and try,
//! so that a thousand replies to a dead caller cost no more than one.
//!
//! Which message was returned is told by the returned message itself: with several in flight,
//! lapin may hand a return to the confirmation of another.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::connection::{Connection, ConnectionError};
use super::counters::Counters;

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

/// A reply on its way. Its `Debug` says no more than where to.
#[derive(Clone, PartialEq, Eq)]
pub struct Letter {
    /// The caller's reply queue.
    pub queue: String,
    /// The body, ready to send.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letter")
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

/// Where replies are dropped in. Cheap to clone; the outbox ends when all clones are gone.
#[derive(Debug, Clone)]
pub struct Slot(mpsc::Sender<Letter>);

impl Slot {
    /// Takes a letter, or gives it back when too many wait already.
    ///
    /// # Errors
    ///
    /// The letter.
    pub fn post(&self, letter: Letter) -> Result<(), Letter> {
        self.0.try_send(letter).map_err(|error| match error {
            mpsc::error::TrySendError::Full(letter) | mpsc::error::TrySendError::Closed(letter) => {
                letter
            }
        })
    }
}

/// The replies that are not yet with the broker. Outlives connections.
#[derive(Debug)]
pub struct Outbox {
    letters: mpsc::Receiver<Letter>,
    unconfirmed: HashMap<u64, Letter>,
    next: u64,
    absent: Absent,
}

impl Outbox {
    /// An outbox and its slot. `patience` is `kombu_missing_consumer_retry_timeout`.
    #[must_use]
    pub fn new(patience: Duration) -> (Slot, Self) {
        let (sender, letters) = mpsc::channel(CAPACITY);
        let outbox = Self {
            letters,
            unconfirmed: HashMap::new(),
            next: 0,
            absent: Absent::new(patience),
        };
        (Slot(sender), outbox)
    }

    /// Sends letters on `connection` until all slots are gone and everything is confirmed, or
    /// until `stop`.
    ///
    /// A letter whose confirmation was lost with the previous connection is sent again: a
    /// caller drops a second answer, but a first one that is missing costs it a time-out.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub async fn run(
        &mut self,
        connection: &Connection,
        counters: &Counters,
        stop: &CancellationToken,
    ) -> Result<(), ConnectionError> {
        let channel = connection.channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let mut confirmations = FuturesUnordered::new();
        let mut ready: VecDeque<Letter> = std::mem::take(&mut self.unconfirmed)
            .into_values()
            .collect();
        loop {
            while confirmations.len() < IN_FLIGHT
                && let Some(letter) = ready.pop_front()
            {
                let id = self.next;
                self.next += 1;
                self.unconfirmed.insert(id, letter.clone());
                let confirmation = publish(&channel, &letter).await?;
                confirmations.push(async move { (id, confirmation.await) });
            }
            let due = self.absent.due();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = connection.ended() => return Err(ConnectionError::Ended),
                Some((id, confirmation)) = confirmations.next() => {
                    let letter = self.unconfirmed.remove(&id);
                    match confirmation? {
                        Confirmation::Ack(None) => {
                            counters.replies.add(1);
                            if let Some(letter) = letter {
                                ready.extend(self.absent.arrived(&letter));
                            }
                        }
                        // Not necessarily the letter of this confirmation.
                        Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
                            let letter = Letter {
                                queue: returned.delivery.routing_key.to_string(),
                                body: returned.delivery.data,
                            };
                            counters.replies_dropped.add(self.absent.bounced(letter, Instant::now()));
                        }
                        // The broker could not store it: the same letter, a moment later.
                        Confirmation::Nack(None) | Confirmation::NotRequested => {
                            if let Some(letter) = letter {
                                counters.replies_dropped.add(self.absent.bounced(letter, Instant::now()));
                            }
                        }
                    }
                }
                () = sleep_until(due) => {
                    let (tries, dropped) = self.absent.retry(Instant::now());
                    counters.replies_dropped.add(dropped);
                    ready.extend(tries);
                }
                letter = self.letters.recv(), if confirmations.len() < IN_FLIGHT => match letter {
                    Some(letter) => match self.absent.admit(letter, Instant::now()) {
                        Admission::Send(letter) => ready.push_back(letter),
                        Admission::Wait => {}
                        Admission::Drop => counters.replies_dropped.add(1),
                    },
                    None if confirmations.is_empty() && ready.is_empty() => return Ok(()),
                    // The last slot is gone: only what is under way is waited for.
                    None => {
                        if let Some((id, confirmation)) = confirmations.next().await {
                            self.unconfirmed.remove(&id);
                            confirmation?;
                        }
                    }
                },
            }
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn publish(
    channel: &Channel,
    letter: &Letter,
) -> Result<lapin::PublisherConfirm, lapin::Error> {
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
            letter.queue.as_str().into(),
            BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            },
            &letter.body,
            properties,
        )
        .await
}

/// What to do with a letter that comes in.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Send(Letter),
    Wait,
    Drop,
}

/// The reply queues that were not there.
#[derive(Debug)]
struct Absent {
    patience: Duration,
    missing: HashMap<String, Missing>,
    dead: HashMap<String, Instant>,
}

#[derive(Debug)]
struct Missing {
    since: Instant,
    next_try: Instant,
    /// The first is the one that is tried.
    letters: VecDeque<Letter>,
}

impl Absent {
    fn new(patience: Duration) -> Self {
        Self {
            patience,
            missing: HashMap::new(),
            dead: HashMap::new(),
        }
    }

    fn admit(&mut self, letter: Letter, now: Instant) -> Admission {
        self.dead.retain(|_, since| now - *since < DEAD_FOR);
        if self.dead.contains_key(&letter.queue) {
            return Admission::Drop;
        }
        match self.missing.get_mut(&letter.queue) {
            None => Admission::Send(letter),
            Some(missing) if missing.letters.len() < CAPACITY => {
                missing.letters.push_back(letter);
                Admission::Wait
            }
            Some(_) => Admission::Drop,
        }
    }

    /// The broker has returned `letter`. Returns how many letters were given up for it.
    fn bounced(&mut self, letter: Letter, now: Instant) -> usize {
        if self.dead.contains_key(&letter.queue) {
            return 1;
        }
        if let Some(missing) = self.missing.get_mut(&letter.queue) {
            missing.letters.push_front(letter);
            return 0;
        }
        if self.missing.len() + self.dead.len() >= MEMORY {
            return 1;
        }
        debug!(queue = %letter.queue, "the reply queue is missing");
        self.missing.insert(
            letter.queue.clone(),
            Missing {
                since: now,
                next_try: now + RETRY,
                letters: VecDeque::from([letter]),
            },
        );
        0
    }

    /// The broker has taken `letter`: returns what has waited for its queue.
    fn arrived(&mut self, letter: &Letter) -> VecDeque<Letter> {
        match self.missing.get(&letter.queue) {
            // An empty one is being tried, with this letter.
            Some(missing) if !missing.letters.contains(letter) => self
                .missing
                .remove(&letter.queue)
                .map(|missing| missing.letters)
                .unwrap_or_default(),
            _ => VecDeque::new(),
        }
    }

    fn due(&self) -> Option<Instant> {
        self.missing.values().map(|missing| missing.next_try).min()
    }

    /// One letter for each queue whose time has come, and how many were given up.
    fn retry(&mut self, now: Instant) -> (Vec<Letter>, usize) {
        let mut tries = Vec::new();
        let mut dropped = 0;
        let (dead, patience) = (&mut self.dead, self.patience);
        self.missing.retain(|queue, missing| {
            if missing.next_try > now {
                return true;
            }
            if now - missing.since >= patience {
                dropped += missing.letters.len();
                warn!(%queue, replies = missing.letters.len(), "the caller is gone: its replies are dropped");
                dead.insert(queue.clone(), now);
                return false;
            }
            missing.next_try = now + RETRY;
            tries.extend(missing.letters.pop_front());
            true
        });
        (tries, dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(queue: &str, body: &str) -> Letter {
        Letter {
            queue: queue.into(),
            body: body.into(),
        }
    }

    #[test]
    fn a_missing_queue_is_tried_with_one_letter_until_it_is_there() {
        let mut absent = Absent::new(Duration::from_secs(60));
        let now = Instant::now();
        let first = letter("q", "1");
        assert_eq!(absent.bounced(first.clone(), now), 0);
        assert_eq!(absent.admit(letter("q", "2"), now), Admission::Wait);
        assert_eq!(absent.retry(now).0, vec![]);
        let (tries, dropped) = absent.retry(now + RETRY);
        assert_eq!((tries, dropped), (vec![first.clone()], 0));
        assert_eq!(absent.bounced(first.clone(), now + RETRY), 0);
        let (tries, _) = absent.retry(now + 2 * RETRY);
        assert_eq!(tries, vec![first.clone()]);
        assert_eq!(absent.arrived(&first), VecDeque::from([letter("q", "2")]));
        assert_eq!(absent.due(), None);
    }

    #[test]
    fn a_caller_that_stays_away_costs_nothing_for_a_minute() {
        let mut absent = Absent::new(Duration::from_secs(1));
        let now = Instant::now();
        absent.bounced(letter("q", "1"), now);
        absent.admit(letter("q", "2"), now);
        let later = now + Duration::from_secs(1);
        assert_eq!(absent.retry(later), (vec![], 2));
        assert_eq!(absent.admit(letter("q", "3"), later), Admission::Drop);
        assert_eq!(absent.due(), None);
        let much_later = later + DEAD_FOR;
        assert_eq!(
            absent.admit(letter("q", "4"), much_later),
            Admission::Send(letter("q", "4"))
        );
    }

    #[test]
    fn memory_is_bounded() {
        let mut absent = Absent::new(Duration::from_secs(60));
        let now = Instant::now();
        for n in 0..MEMORY {
            assert_eq!(absent.bounced(letter(&format!("q{n}"), "1"), now), 0);
        }
        assert_eq!(absent.bounced(letter("one more", "1"), now), 1);
    }
}
