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
//! *after* it has acknowledged, without saying which messages were refused.
//!
//! **Look first** (`ready`). Before each commit that hands something over T is looked up, and must have a consumer and
//! hardly any backlog: then it is neither gone nor full. Q is looked up as well and must have a consumer besides us:
//! what we give back is cinder-volume's to take. The broker must answer soon, because the messages in our hands wait
//! for the answer. Otherwise everything in hand goes back to its old place on Q, and we stand aside (`stand_aside`):
//! while we do not consume Q, cinder-volume gets all messages as if we had never been there.
//!
//! **What T does not take** (`commit`, `returned`). A message that is returned or refused all the same is published
//! to Q again, confirmed, before anything else. A refusal says nothing if it concerns several messages. So
//! transactions start with one message, and grow only while T is seen empty before each. A quorum queue that refuses
//! does not fail the commit: the broker says ok and the message is gone. It refuses only while more waits on it than
//! it may hold. So a T that is not known to be a classic queue must be seen *empty* before each commit, and each
//! transaction onto it has one message.
//!
//! **Nothing goes to and fro** (`redeliveries`). Quorum queues count how often a message came back, and drop one that
//! came back too often. A message that came back twice goes alone. Where it comes back once more, Q is left to
//! cinder-volume until Q was seen empty.
//!
//! **Standing aside is the answer to everything.** A message that the broker will not take from
//! us, a channel error, a cancelled consumer: we let go and come back later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt, join};
use lapin::message::Delivery;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use self::elsewhere::{Elsewhere, MissingHere};
use self::ready::BEFORE_COMMIT;
use self::redeliveries::Redeliveries;
use self::returned::Returned;
use self::spell::Spell;
use self::stand_aside::{StandAside, Waits};
use self::transaction::{WINDOW, batch_end, is_to_hand_over, judged, prepare};
use self::unsettled::Unsettled;
use super::connection::{Connection, ConnectionError};
use super::inspect::queue_type::Inquiry;
use super::inspect::rights::may_publish;
use super::message::{Disposition, Message};
use super::metrics::Counters;
use super::topology::TopicNames;
use crate::liveness::{Liveness, Role, TaskHandle, TaskState};

/// Commits a transaction, and takes in what comes back of it.
mod commit;
/// When to try the next broker host.
pub mod elsewhere;
/// Looking queues up while serving, within a time limit.
pub mod probe;
/// Whether there is a cinder-volume to hand over to.
mod ready;
/// How often messages come back to Q from our hands.
mod redeliveries;
/// Messages that T did not take.
mod returned;
/// One spell of serving.
mod spell;
/// Why a backend's queue is not consumed for a while.
mod stand_aside;
/// One transaction.
mod transaction;
/// What the end of the daemon would lose or double.
pub mod unsettled;

pub use self::ready::{BACKLOG, NEXT_LEADER};
pub use self::spell::ConsumerOptions;

/// How long everything is held here when a consumer of T has left. cinder-volume reads T with two connections. When it
/// stops it closes them one after the other, up to a second apart, and oslo.messaging 18.3 acknowledges and drops what
/// still arrives on the later one, from T as from Q.
const LEAVING: Duration = Duration::from_secs(2);

/// Between two looks at whether the rest has left as well.
const LEAVING_PAUSE: Duration = Duration::from_millis(20);

/// Messages held at most meanwhile, besides those in hand.
const HELD: u16 = 512;

/// How long what is in hand may wait for its turn. What no transaction has reached by then goes back: with a broker
/// that takes its time for each transaction, and one message in each, the last of many would wait for long. A
/// transaction under way takes its own time: its look waits for the next leader of Q, its commit for that of T.
const IN_HAND: Duration = Duration::from_secs(1);

/// The hand-over of one backend. Outlives connections, because a message that was returned by
/// the broker and could not be put back yet is in nobody else's hands.
#[derive(Debug)]
pub struct HandOver {
    names: Arc<TopicNames>,
    options: ConsumerOptions,
    returned: Returned,
    redeliveries: Redeliveries,
    unsettled: Unsettled,
    /// Tried since the connection was opened, and since the last trouble with a channel.
    may_publish: bool,
}

/// What a hand-over works with on one connection.
pub struct HandOverContext<'a, T> {
    /// The connection.
    pub connection: &'a Connection,
    /// Decides about each message; must not block: operations wait behind it.
    pub take: &'a T,
    /// Where it is counted.
    pub counters: &'a Counters,
    /// Where it shows that it is at work.
    pub liveness: &'a Liveness,
    /// Whether another host may know more.
    pub elsewhere: &'a Elsewhere,
    /// Ends it.
    pub stop: &'a CancellationToken,
}

impl<T> HandOverContext<'_, T> {
    /// Why all leave the connection.
    fn why_to_leave(&self) -> ConnectionError {
        if self.connection.is_worn() {
            ConnectionError::Worn
        } else {
            ConnectionError::Elsewhere
        }
    }
}

/// How a spell of serving ended where nothing was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Served {
    /// We were told to stop.
    Stopped,
    /// All is well again: the next spell need not be careful.
    Again,
}

impl HandOver {
    /// For the backend with these names. `unsettled` counts what must be settled before the daemon ends.
    #[must_use]
    pub fn new(names: TopicNames, options: ConsumerOptions, unsettled: Unsettled) -> Self {
        Self {
            returned: Returned::of(&names.server, unsettled.clone()),
            unsettled,
            names: Arc::new(names),
            options,
            redeliveries: Redeliveries::default(),
            may_publish: false,
        }
    }

    /// The names it was made with.
    #[must_use]
    pub fn names(&self) -> &TopicNames {
        &self.names
    }

    /// Whether messages that T has returned are here and nowhere else.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.returned.is_empty()
    }

    /// Puts on Q what T has returned and no earlier connection has put back. Tries again until it is done, until
    /// the connection ends or `enough` is cancelled.
    ///
    /// Not cancel-safe while the connection lives: dropped while it puts a message back, the message
    /// may be on Q twice.
    pub async fn republish(
        &mut self,
        connection: &Connection,
        counters: &Counters,
        task: &TaskHandle,
        enough: &CancellationToken,
    ) {
        let mut backoff = stand_aside::usual();
        while self.holds() && !connection.is_worn() {
            let Err(cause) = self.returned.republish(connection, counters, task).await else {
                return;
            };
            debug!(queue = %self.names.server, %cause, "returned messages cannot be put back yet");
            tokio::select! {
                () = enough.cancelled() => return,
                () = connection.ended() => return,
                () = tokio::time::sleep(backoff.wait()) => {}
            }
        }
    }

    /// Serves Q until told to stop or until the connection ends.
    ///
    /// # Errors
    ///
    /// When the connection has ended. Everything else is waited out here.
    ///
    /// Not cancel-safe while the connection lives: dropped while it puts a message back, the message
    /// may be on Q twice.
    pub async fn run<T>(&mut self, on: &HandOverContext<'_, T>) -> Result<(), ConnectionError>
    where
        T: Fn(Message<'_>) -> Disposition + Sync,
    {
        let mut waits = Waits::default();
        let mut said = String::new();
        let mut missing = on.elsewhere.backend();
        self.may_publish = false;
        let task = on.liveness.task(
            Role::Queue(self.names.server.clone()),
            Some(on.connection.alarm()),
        );
        loop {
            task.heartbeat();
            let since = Instant::now();
            let aside = match self.serve(on, &task, &mut said, &mut missing).await {
                Ok(Served::Stopped) => return Ok(()),
                Ok(Served::Again) => continue,
                Err(aside) => aside,
            };
            if on.connection.has_ended() {
                return Err(ConnectionError::Ended);
            }
            if on.connection.is_worn() {
                // The others must not be cut off in the middle of a commit.
                on.elsewhere.leave();
                return Err(ConnectionError::Worn);
            }
            if let StandAside::Channel(_) = aside {
                self.may_publish = false;
            }
            missing.looked(matches!(aside, StandAside::Missing(_)));
            let reason = aside.reason();
            on.counters.stood_aside.of(reason).inc();
            let cause = aside.to_string();
            if said != cause {
                warn!(queue = %self.names.server, %cause, "standing aside");
                said.clone_from(&cause);
            }
            waits.after_spell(since.elapsed());
            let wait = waits.after(&aside, self.redeliveries.is_left(), self.holds());
            task.does(match aside {
                StandAside::Missing(_) => TaskState::Waiting(cause),
                _ => TaskState::Aside(reason, cause),
            });
            tokio::select! {
                // Not while messages are in nobody else's hands: the daemon's own time limit ends it.
                () = on.stop.cancelled(), if self.returned.is_empty() => return Ok(()),
                () = on.connection.ended() => return Err(ConnectionError::Ended),
                // What is in nobody else's hands comes along.
                () = on.elsewhere.is_better() => return Err(on.why_to_leave()),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Serves Q until `stop`, or says why we must stand aside. The channel is closed either way.
    async fn serve<T>(
        &mut self,
        on: &HandOverContext<'_, T>,
        task: &TaskHandle,
        said: &mut String,
        missing: &mut MissingHere<'_>,
    ) -> Result<Served, StandAside>
    where
        T: Fn(Message<'_>) -> Disposition + Sync,
    {
        let connection = on.connection;
        if !self.may_publish {
            self.may_publish = tokio::select! {
                () = on.stop.cancelled(), if self.returned.is_empty() => return Ok(Served::Stopped),
                may_publish = may_publish(connection) => may_publish?,
            };
        }
        if !self.may_publish {
            return Err(StandAside::Forbidden);
        }
        self.returned
            .republish(connection, on.counters, task)
            .await?;
        if on.stop.is_cancelled() {
            return Ok(Served::Stopped);
        }
        let mut spell = Spell::open(connection, &self.names, &self.unsettled).await?;
        let mut served = self.serve_on(&mut spell, on, task, said, missing).await;
        if let Err(StandAside::Leaving(_)) = served {
            served = self.hold(&mut spell, on).await.and(served);
        }
        let broken = matches!(
            served,
            Err(StandAside::Channel(_) | StandAside::Connection(ConnectionError::Ended))
        );
        if !broken && !connection.is_blocked() && spell.lookout.has_committed() {
            // A Q without a leader has not got the acknowledgements yet: the channel must live until there is one.
            let _unsettled = self.unsettled.begin();
            if let Err(error) = spell.lookout.last(connection, task).await {
                debug!(queue = %self.names.server, %error, "no last look");
            }
        }
        if !spell.consumers.is_empty() {
            self.end(&mut spell, on, &served).await;
        }
        // Whatever is still in hand goes back to its old place on Q now, not when the broker
        // notices that we are gone.
        spell.close().await;
        // Even on stop: nobody else has these.
        self.returned
            .republish(connection, on.counters, task)
            .await?;
        served
    }

    /// Gives back what is in hand, and keeps in mind how often it came back.
    async fn end<T>(
        &mut self,
        spell: &mut Spell,
        on: &HandOverContext<'_, T>,
        served: &Result<Served, StandAside>,
    ) {
        let broken = matches!(
            served,
            Err(StandAside::Channel(_) | StandAside::Connection(_))
        );
        // A broker that is slow to answer is not asked for three answers more.
        if !broken
            && !matches!(served, Err(StandAside::Slow(_)))
            && let Err(error) = spell.give_back(on.connection).await
        {
            debug!(queue = %self.names.server, %error, "giving back by closing the channel");
        }
        spell.gather();
        let in_hand = spell.in_hand.iter().map(|(delivery, _)| delivery);
        self.redeliveries.hold(in_hand);
        if let Err(StandAside::Copies(_)) = served {
            self.redeliveries.leave();
        }
        let given_back = self.redeliveries.end(broken);
        if served.is_err() && given_back.is_often() {
            on.counters.left.inc_by(given_back.messages as u64);
            error!(
                queue = %self.names.server,
                messages = given_back.messages,
                times = given_back.most + 1,
                "a message cannot be handed over and came back again and again: the queue is left to \
                 cinder-volume until it has taken all of it"
            );
        }
    }

    async fn serve_on<T>(
        &mut self,
        spell: &mut Spell,
        on: &HandOverContext<'_, T>,
        task: &TaskHandle,
        said: &mut String,
        missing: &mut MissingHere<'_>,
    ) -> Result<Served, StandAside>
    where
        T: Fn(Message<'_>) -> Disposition + Sync,
    {
        self.enter(spell, on.connection, task).await?;
        info!(queue = %self.names.server, target = %self.names.topic, "serving beside cinder-volume");
        said.clear();
        missing.looked(false);
        task.does(TaskState::Serving);
        let careful = self.redeliveries.is_careful();
        let mut leaves = false;
        loop {
            task.heartbeat();
            let waiting = spell.consumers[0].next().now_or_never();
            let first = match waiting {
                Some(first) => first,
                None => {
                    // Nothing waits: what comes next starts small again.
                    spell.window = 1;
                    tokio::select! {
                        biased;
                        () = on.stop.cancelled() => return Ok(Served::Stopped),
                        () = on.connection.ended() => return Err(ConnectionError::Ended.into()),
                        first = spell.consumers[0].next() => first,
                        () = on.elsewhere.is_better() => return Err(on.why_to_leave().into()),
                        () = task.idle() => {
                            if careful || spell.lookout.is_due() {
                                spell.lookout.idly(task).await?;
                                self.redeliveries.calm();
                            }
                            if careful && !leaves {
                                leaves = true;
                                spell.cancel().await?;
                            }
                            continue;
                        }
                    }
                }
            };
            if leaves && first.is_none() {
                return Ok(Served::Again);
            }
            spell.in_hand.push(judged(self.delivered(first)?, on.take));
            // The end of a stream is told once: it must not be lost among what came before it.
            let mut end = None;
            while spell.in_hand.len() < usize::from(self.options.prefetch) {
                match spell.consumers[0].next().now_or_never() {
                    Some(Some(Ok(delivery))) => spell.in_hand.push(judged(delivery, on.take)),
                    Some(ended) => {
                        end = Some(ended.and_then(Result::err));
                        break;
                    }
                    None => break,
                }
            }
            let is_over = match end {
                None => false,
                Some(None) if leaves => true,
                // The broker takes no acknowledgement of what came before: that is on Q again, if Q is there.
                Some(end) => return Err(self.ended(end)),
            };
            self.settle(spell, on, task).await?;
            if on.elsewhere.is_to_be_left() {
                return Err(on.why_to_leave().into());
            }
            if is_over {
                return Ok(Served::Again);
            }
            if on.stop.is_cancelled() {
                return Ok(Served::Stopped);
            }
            if careful && !leaves && self.redeliveries.has_moved() {
                leaves = true;
                // Where Q has no leader, to cancel would block the channel.
                spell.lookout.idly(task).await?;
                spell.cancel().await?;
            }
        }
    }

    /// Consumes Q, if everything is as it must be.
    async fn enter(
        &mut self,
        spell: &mut Spell,
        connection: &Connection,
        task: &TaskHandle,
    ) -> Result<(), StandAside> {
        let waiting = spell.lookout.enter(task).await?;
        if self.redeliveries.is_left() {
            if waiting > 0 {
                return Err(StandAside::Repeated(self.names.server.clone()));
            }
            self.redeliveries.taken();
        }
        let inquiry = Inquiry::of(connection).await?;
        if !inquiry.is_classic(&self.names.topic).await? {
            spell.one_by_one = true;
            spell.lookout.demand_empty();
        }
        spell.work.tx_select().await?;
        let prefetch = if self.redeliveries.is_careful() {
            1
        } else {
            self.options.prefetch
        };
        spell.consume(&self.names, &self.options, prefetch).await?;
        self.redeliveries.begin();
        Ok(())
    }

    fn delivered(&self, next: Option<lapin::Result<Delivery>>) -> Result<Delivery, StandAside> {
        match next {
            Some(Ok(delivery)) => Ok(delivery),
            Some(Err(error)) => Err(self.ended(Some(error))),
            None => Err(self.ended(None)),
        }
    }

    /// Why nothing is delivered any more, by the error that the stream of deliveries has ended with.
    fn ended(&self, error: Option<lapin::Error>) -> StandAside {
        match error {
            Some(error) => error.into(),
            None => StandAside::Cancelled(self.names.server.clone()),
        }
    }

    /// Settles all that is in hand, in order, in as few transactions as is safe.
    async fn settle<T>(
        &mut self,
        spell: &mut Spell,
        on: &HandOverContext<'_, T>,
        task: &TaskHandle,
    ) -> Result<(), StandAside> {
        let since = Instant::now();
        while !spell.in_hand.is_empty() {
            if since.elapsed() > IN_HAND {
                return Err(StandAside::Behind(self.names.topic.clone()));
            }
            task.heartbeat();
            self.redeliveries
                .hold(spell.in_hand.iter().map(|(delivery, _)| delivery));
            let count = self.fill(spell, task).await?;
            let begun = Instant::now();
            spell.lookout.commits();
            self.commit(&spell.work, &spell.in_hand[..count], on)
                .await?;
            let mut settled = spell.in_hand.drain(..count);
            if settled.any(|message| is_to_hand_over(&message)) {
                self.redeliveries.moved();
            }
            drop(settled);
            if begun.elapsed() > BEFORE_COMMIT.answer {
                return Err(StandAside::Slow(BEFORE_COMMIT.answer));
            }
        }
        self.redeliveries.hold([].iter());
        Ok(())
    }

    /// Fills the next transaction, onto a T that was seen ready for it, and says how many of the
    /// messages in hand are in it.
    async fn fill(&mut self, spell: &mut Spell, task: &TaskHandle) -> Result<usize, StandAside> {
        let count = batch_end(&spell.in_hand, spell.window);
        let now = &spell.in_hand[..count];
        if now.is_empty() {
            return Err(StandAside::Copies(self.names.server.clone()));
        }
        if !now.iter().any(is_to_hand_over) {
            prepare(&spell.work, &self.names, now).await?;
        } else if spell.window == 1 {
            // Whatever the look-up says, this transaction is the same: it is filled while the
            // answer is on its way, and stays without effect until the commit, which waits for it.
            let (ready, prepared) = join!(
                spell.lookout.stay(task),
                prepare(&spell.work, &self.names, now)
            );
            ready?;
            prepared?;
            if !spell.one_by_one {
                spell.window = 2;
            }
        } else {
            if spell.lookout.stay(task).await? > 0 {
                spell.window = 1;
            }
            let count = batch_end(&spell.in_hand, spell.window);
            spell.window = (spell.window * 2).min(WINDOW);
            prepare(&spell.work, &self.names, &spell.in_hand[..count]).await?;
            return Ok(count);
        }
        Ok(count)
    }

    /// Takes all that arrives on Q, and settles nothing, until the consumers of T are all gone or
    /// complete again. It is given back afterwards.
    async fn hold<T>(
        &self,
        spell: &mut Spell,
        on: &HandOverContext<'_, T>,
    ) -> Result<(), StandAside> {
        let deadline = tokio::time::Instant::now() + LEAVING;
        // The limit is that of the next consumer; the first one keeps its own.
        let consume = spell.consume(&self.names, &self.options, HELD);
        match tokio::time::timeout_at(deadline, consume).await {
            Ok(consumed) => consumed?,
            // It may still come to be: the channel is closed over it.
            Err(_) => return Err(StandAside::Slow(LEAVING)),
        }
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() || spell.lookout.is_decided(left).await? != Some(false) {
                return Ok(());
            }
            tokio::select! {
                () = on.stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LEAVING_PAUSE) => {}
            }
        }
    }
}
