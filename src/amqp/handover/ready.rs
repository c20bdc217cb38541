//! Whether there is a cinder-volume to hand over to, and beside which to consume.

use std::sync::Arc;
use std::time::Duration;

use futures_util::join;
use tracing::debug;

use super::probe::Probe;
use super::stand_aside::Aside;
use crate::amqp::connection::{Connection, ConnectionError};
use crate::amqp::topology::{QueueState, TopicNames, is_missing};

/// Messages that may wait on T while we still hand over to it.
///
/// cinder-volume fetches without limit, so T is all but empty while it lives. A backlog means
/// that it does not keep up, and then a message is as well off on Q, from which cinder-volume
/// takes it too. The bound also keeps us away from a limit on T's length (`x-max-length` by
/// policy), which no client can see.
pub const BACKLOG: u32 = 16;

/// What a look at both queues must find.
#[derive(Clone, Copy)]
pub(super) struct TopicRequirements {
    /// Messages on T at most.
    backlog: u32,
    /// How long the broker may take to answer. A message waits in our hands for two answers; with
    /// a broker that is far away or overloaded it is better off on Q.
    pub(super) answer: Duration,
}

/// Before we consume Q. Lower than what is demanded afterwards, so that a spell of serving moves
/// some messages and they do not go to and fro: quorum queues count how often one comes back.
const BEFORE_CONSUMING: TopicRequirements = TopicRequirements {
    backlog: 0,
    answer: Duration::from_millis(300),
};

/// Before each commit.
pub(super) const BEFORE_COMMIT: TopicRequirements = TopicRequirements {
    backlog: BACKLOG,
    answer: Duration::from_secs(1),
};

/// How long the backlog of T may take to shrink before we stand aside.
const BACKLOG_PATIENCE: Duration = Duration::from_millis(200);

/// Between two looks at a backlog.
const BACKLOG_PAUSE: Duration = Duration::from_millis(5);

/// Looks at T and Q for as long as Q is consumed.
pub(super) struct Lookout {
    names: Arc<TopicNames>,
    /// A channel for each queue: both are asked for at once.
    topic: Probe,
    server: Probe,
    /// Consumers that T has had since we serve.
    topic_consumers: u32,
    /// Consumers of Q that are ours.
    ours: u32,
    /// What is demanded before each commit.
    stay: TopicRequirements,
}

impl Lookout {
    /// Opens its channels.
    ///
    /// # Errors
    ///
    /// What ended the connection.
    pub(super) async fn open(
        connection: &Connection,
        names: Arc<TopicNames>,
    ) -> Result<Self, ConnectionError> {
        Ok(Self {
            names,
            topic: Probe::open(connection).await?,
            server: Probe::open(connection).await?,
            topic_consumers: 0,
            ours: 0,
            stay: BEFORE_COMMIT,
        })
    }

    /// Whether Q can be consumed. Says how many messages wait on Q.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub(super) async fn enter(&mut self) -> Result<u32, Aside> {
        let (_, server) = self.look(BEFORE_CONSUMING).await?;
        Ok(server.ready)
    }

    /// From now on one more consumer of Q is ours.
    pub(super) fn consumes(&mut self) {
        self.ours += 1;
    }

    /// From now on no consumer of Q is ours.
    pub(super) fn consumes_no_more(&mut self) {
        self.ours = 0;
    }

    /// From now on T must be seen empty before each commit.
    pub(super) fn demand_empty(&mut self) {
        self.stay.backlog = 0;
    }

    /// Whether T can be handed over to now. Says how many messages wait on T.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub(super) async fn stay(&mut self) -> Result<u32, Aside> {
        let (topic, _) = self.look(self.stay).await?;
        Ok(topic.ready)
    }

    /// Whether cinder-volume is still there while there is nothing to hand over.
    ///
    /// # Errors
    ///
    /// Why Q cannot be consumed any longer.
    pub(super) async fn idly(&mut self) -> Result<(), Aside> {
        let requirements = TopicRequirements {
            backlog: u32::MAX,
            ..self.stay
        };
        self.look(requirements).await.map(drop)
    }

    /// Starts afresh with new channels after a question that was given up.
    ///
    /// # Errors
    ///
    /// What ended the connection.
    pub(super) async fn ask_anew(
        &mut self,
        connection: &Connection,
    ) -> Result<(), ConnectionError> {
        let (topic, server) = (
            Probe::open(connection).await?,
            Probe::open(connection).await?,
        );
        let topic = std::mem::replace(&mut self.topic, topic);
        let server = std::mem::replace(&mut self.server, server);
        topic.close().await;
        server.close().await;
        Ok(())
    }

    /// Both queues are there, others than we consume each, T as many as before, no more waits on T
    /// than is demanded, and the broker says so in time.
    async fn look(
        &mut self,
        requirements: TopicRequirements,
    ) -> Result<(QueueState, QueueState), Aside> {
        let patience = tokio::time::Instant::now() + BACKLOG_PATIENCE;
        loop {
            let (topic, server) = join!(
                find(&self.topic, &self.names.topic, requirements.answer),
                find(&self.server, &self.names.server, requirements.answer),
            );
            let (server, topic) = (server?, topic?);
            debug!(queue = %self.names.topic, ?topic, ?server, "looked up");
            self.judge(topic, server)?;
            if topic.ready <= requirements.backlog {
                return Ok((topic, server));
            }
            if tokio::time::Instant::now() >= patience {
                return Err(Aside::Backlog(self.names.topic.clone()));
            }
            tokio::time::sleep(BACKLOG_PAUSE).await;
        }
    }

    /// Whether both queues have the consumers that they must have.
    fn judge(&mut self, topic: QueueState, server: QueueState) -> Result<(), Aside> {
        if topic.consumers == 0 {
            return Err(Aside::Unattended(self.names.topic.clone()));
        }
        if topic.consumers < self.topic_consumers {
            return Err(Aside::Leaving(self.names.topic.clone()));
        }
        if server.consumers <= self.ours {
            return Err(Aside::Alone(self.names.server.clone()));
        }
        self.topic_consumers = topic.consumers;
        Ok(())
    }

    /// Whether the consumers of T are all gone or complete again; `None` if the broker does not say
    /// so within `limit`.
    ///
    /// # Errors
    ///
    /// What else a look can end with.
    pub(super) async fn is_decided(&self, limit: Duration) -> Result<Option<bool>, Aside> {
        match find(&self.topic, &self.names.topic, limit).await {
            Ok(topic) => Ok(Some(
                topic.consumers == 0 || topic.consumers >= self.topic_consumers,
            )),
            Err(Aside::Slow(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Closes its channels.
    pub(super) async fn close(self) {
        self.topic.close().await;
        self.server.close().await;
    }
}

async fn find(probe: &Probe, queue: &str, limit: Duration) -> Result<QueueState, Aside> {
    match probe.find(queue, limit).await {
        Ok(Some(standing)) => Ok(standing),
        Ok(None) => Err(Aside::Slow(limit)),
        Err(error) if is_missing(&error) => Err(Aside::Missing(queue.to_owned())),
        Err(error) => Err(error.into()),
    }
}
