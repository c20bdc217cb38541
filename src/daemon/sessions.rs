//! What is done on each connection: replies on one, the intake of all backends on another, our own topics on a third.

use futures_util::future::{join_all, try_join_all};
use futures_util::join;
use tokio_util::sync::CancellationToken;

use crate::amqp::claim::{Claims, ExpectedConsumers};
use crate::amqp::connection::backoff::Backoff;
use crate::amqp::connection::supervisor::Session;
use crate::amqp::connection::{Connection, ConnectionError};
use crate::amqp::handover::elsewhere::Elsewhere;
use crate::amqp::handover::{HandOver, HandOverContext};
use crate::amqp::message::Message;
use crate::amqp::metrics::Counters;
use crate::amqp::neighbour::{DaemonIdentity, Neighbours, Ping, Presence};
use crate::amqp::replies::ReplyPublisher;
use crate::amqp::topology::TopicNames;
use crate::amqp::{own_topic, standalone};
use crate::config::Rabbit;
use crate::liveness::{Liveness, Role};
use crate::rpc::call::Call;
use crate::worker::Worker;

/// Sends the replies of all backends.
pub struct Replies<'a> {
    /// What is to be sent.
    pub publisher: ReplyPublisher,
    /// The counters of replies.
    pub counters: &'a Counters,
    /// Where the session shows what it does.
    pub liveness: &'a Liveness,
    /// Cancelled by the daemon to end at once, and by the session when no more replies will come.
    pub stop: &'a CancellationToken,
}

impl Session for Replies<'_> {
    async fn run(&mut self, connection: &Connection) -> Result<(), ConnectionError> {
        let task = self
            .liveness
            .task(Role::ReplyPublisher, Some(connection.alarm()));
        self.publisher
            .run(connection, self.counters, &task, self.stop)
            .await?;
        self.stop.cancel();
        Ok(())
    }
}

/// Serves all backends beside a cinder-volume.
pub struct SidecarSession<'a> {
    /// The hand-over of each backend, and the worker that tells which messages are ours.
    pub backends: Vec<(HandOver, Worker)>,
    /// The own topic of each.
    pub own_topics: Vec<TopicNames>,
    /// Which daemon this is, for other daemons.
    pub identity: &'a DaemonIdentity,
    /// Whether this process has served before: another consumer is then our own lost connection.
    pub served: bool,
    /// How long the queues may be missing on the next host; `None` where there is one host only.
    pub patience: Option<Backoff>,
    /// The counters of the broker's side.
    pub counters: &'a Counters,
    /// Where the session shows what it does.
    pub liveness: &'a Liveness,
    /// Ends it.
    pub stop: &'a CancellationToken,
}

impl Session for SidecarSession<'_> {
    async fn run(&mut self, connection: &Connection) -> Result<(), ConnectionError> {
        let (counters, liveness, stop) = (self.counters, self.liveness, self.stop);
        let names: Vec<TopicNames> = self
            .backends
            .iter()
            .map(|(hand_over, _)| hand_over.names().clone())
            .collect();
        let entry = liveness.task(Role::Entry, Some(connection.alarm()));
        let presence = self.identity.comes();
        // Messages that an earlier connection could not put back wait neither for a claim nor for the daemon's end.
        let entered = CancellationToken::new();
        let putting_back = self
            .backends
            .iter_mut()
            .map(|(hand_over, _)| hand_over.republish(connection, counters, &entry, &entered));
        let expected = ExpectedConsumers::CinderVolume;
        let neighbours = neighbours(&presence, &self.own_topics);
        let mut claims = Claims::new(connection, &names, expected, self.served, neighbours);
        let enter = async {
            let found = claims.obtain(&entry, stop).await;
            if found.is_err() || !stop.is_cancelled() {
                entered.cancel();
            }
            found
        };
        let (found, _) = join!(enter, join_all(putting_back));
        found?;
        drop(entry);
        if stop.is_cancelled() {
            return Ok(());
        }
        presence.serves();
        self.served = true;
        let patience = self.patience.as_mut().map(Backoff::wait);
        let elsewhere = &Elsewhere::new(patience, self.backends.len());
        let serving = self.backends.iter_mut().map(|(hand_over, worker)| {
            let take = |message: Message<'_>| worker.take(message);
            async move {
                let context = HandOverContext {
                    connection,
                    take: &take,
                    counters,
                    liveness,
                    elsewhere,
                    stop,
                };
                hand_over.run(&context).await
            }
        });
        // Each runs to its end, so that none is dropped in the middle of a hand-over.
        let served = with(join_all(serving), claims.complete()).await;
        let served: Result<(), ConnectionError> = served.into_iter().collect();
        if let (Err(ConnectionError::Ended | ConnectionError::Worn), Some(patience)) =
            (&served, &mut self.patience)
        {
            patience.reset();
        }
        served
    }

    fn holds(&self) -> bool {
        self.backends.iter().any(|(hand_over, _)| hand_over.holds())
    }
}

/// Other daemons are asked by a ping on their own topics.
fn neighbours<'a>(presence: &'a Presence, own_topics: &'a [TopicNames]) -> Neighbours<'a> {
    let ping = || {
        let call = Call::new();
        Ping {
            body: call.ping(),
            reply_queue: call.reply_queue,
        }
    };
    Neighbours {
        presence,
        own_topics,
        ping,
    }
}

/// Serves all backends alone.
pub struct StandaloneSession<'a> {
    /// The names of each backend, and who answers.
    pub backends: Vec<(TopicNames, Worker)>,
    /// The own topic of each.
    pub own_topics: Vec<TopicNames>,
    /// Which daemon this is, for other daemons.
    pub identity: &'a DaemonIdentity,
    /// How queues are declared.
    pub rabbit: &'a Rabbit,
    /// Whether this process has served before: another consumer is then our own lost connection.
    pub served: bool,
    /// Where the session shows what it does.
    pub liveness: &'a Liveness,
    /// Ends it.
    pub stop: &'a CancellationToken,
}

impl Session for StandaloneSession<'_> {
    async fn run(&mut self, connection: &Connection) -> Result<(), ConnectionError> {
        let (rabbit, liveness, stop) = (self.rabbit, self.liveness, self.stop);
        let names: Vec<TopicNames> = self
            .backends
            .iter()
            .map(|(names, _)| names.clone())
            .collect();
        let entry = liveness.task(Role::Entry, Some(connection.alarm()));
        let presence = self.identity.comes();
        let expected = ExpectedConsumers::Nobody;
        let neighbours = neighbours(&presence, &self.own_topics);
        let mut claims = Claims::new(connection, &names, expected, self.served, neighbours);
        claims.obtain(&entry, stop).await?;
        drop(entry);
        if stop.is_cancelled() {
            return Ok(());
        }
        presence.serves();
        self.served = true;
        let serving = self.backends.iter().map(|(names, worker)| {
            let take = |message: Message<'_>| {
                worker.take(message);
            };
            let task = liveness.task(Role::Queue(names.server.clone()), Some(connection.alarm()));
            async move { standalone::serve(connection, names, rabbit, &take, &task, stop).await }
        });
        // When one fails the others end too: they share the connection.
        with(try_join_all(serving), claims.complete())
            .await
            .map(drop)
    }
}

/// Runs `work` to its end, and `beside` for no longer.
async fn with<T>(work: impl Future<Output = T>, beside: impl Future<Output = ()>) -> T {
    let beside = async {
        beside.await;
        std::future::pending().await
    };
    tokio::select! {
        done = work => done,
        never = beside => never,
    }
}

/// Serves our own topic for each backend.
pub struct OwnTopics<'a> {
    /// The names for each backend, and who answers.
    pub backends: Vec<(TopicNames, Worker)>,
    /// Which daemon this is, for other daemons.
    pub identity: &'a DaemonIdentity,
    /// Where the session shows what it does.
    pub liveness: &'a Liveness,
    /// Ends it.
    pub stop: &'a CancellationToken,
}

impl Session for OwnTopics<'_> {
    async fn run(&mut self, connection: &Connection) -> Result<(), ConnectionError> {
        let (liveness, identity, stop) = (self.liveness, self.identity, self.stop);
        let serving = self.backends.iter().map(|(names, worker)| {
            let take = |message: Message<'_>| worker.take_own(message);
            let role = Role::OwnTopic(names.topic.clone());
            let task = liveness.task(role, Some(connection.alarm()));
            async move { own_topic::serve(connection, names, identity, &take, &task, stop).await }
        });
        try_join_all(serving).await.map(drop)
    }
}
