//! Whether there is a cinder-volume to hand over to, and beside which to consume.

use std::sync::Arc;
use std::time::Duration;

use futures_util::join;
use tracing::debug;

use super::probe::Probe;
use super::stand_aside::StandAside;
use super::unsettled::Unsettled;
use crate::amqp::connection::{Connection, ConnectionError};
use crate::amqp::topology::{QueueState, TopicNames, is_missing};
use crate::liveness::TaskHandle;

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
    /// How long the broker may take to answer. A message waits in our hands for two answers, to the look and to the
    /// commit. With a broker that is far away or overloaded the message is better off on Q.
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

/// How long the broker may take to answer while nothing is in hand. What arrives meanwhile waits for that answer and
/// for the next one. A single answer may be late: longer than [`BEFORE_COMMIT`] permits, so that it does not end a
/// spell in which nothing waited for it. A broker that takes longer than this would hold up what arrives next.
const IDLE_ANSWER: Duration = Duration::from_secs(2);

/// Between two looks while nothing is in hand. Each costs the broker some hundred microseconds, for each of thousands
/// of nodes. Nothing depends on them but how soon `status` and the metrics show that cinder-volume is gone: before
/// anything is handed over there is a look of its own.
const IDLE_PAUSE: Duration = Duration::from_secs(10);

/// How long Q may be without a leader in reach. The next leader is elected up to ten seconds after the node of the old
/// one has hung. Our channel then sends it the acknowledgements that are outstanding. RabbitMQ 4.0 asks the old leader
/// for as long as its node hangs: then nothing is gained by waiting any longer.
pub const NEXT_LEADER: Duration = Duration::from_secs(15);

/// Between two looks for the next leader.
const LEADER_PAUSE: Duration = Duration::from_millis(100);

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
    consumers: Consumers,
    /// What is demanded before each commit.
    stay: TopicRequirements,
    unsettled: Unsettled,
    /// When the last look began.
    looked: tokio::time::Instant,
    /// A transaction was committed since Q was seen to have a leader.
    has_committed: bool,
}

/// The consumers that are known of.
#[derive(Debug, Default)]
struct Consumers {
    /// Those that T has had since we serve.
    topic: u32,
    /// Those of Q that are ours.
    ours: u32,
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
        unsettled: Unsettled,
    ) -> Result<Self, ConnectionError> {
        Ok(Self {
            names,
            topic: Probe::open(connection).await?,
            server: Probe::open(connection).await?,
            consumers: Consumers::default(),
            stay: BEFORE_COMMIT,
            unsettled,
            looked: tokio::time::Instant::now(),
            has_committed: false,
        })
    }

    /// Whether Q can be consumed. Says how many messages wait on Q.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub(super) async fn enter(&mut self, task: &TaskHandle) -> Result<u32, StandAside> {
        let (_, server) = self.look(BEFORE_CONSUMING, task).await?;
        Ok(server.ready)
    }

    /// From now on one more consumer of Q is ours.
    pub(super) fn consumes(&mut self) {
        self.consumers.ours += 1;
    }

    /// From now on no consumer of Q is ours.
    pub(super) fn consumes_no_more(&mut self) {
        self.consumers.ours = 0;
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
    pub(super) async fn stay(&mut self, task: &TaskHandle) -> Result<u32, StandAside> {
        let (topic, _) = self.look(self.stay, task).await?;
        Ok(topic.ready)
    }

    /// A transaction has been committed.
    pub(super) fn commits(&mut self) {
        self.has_committed = true;
    }

    /// Whether acknowledgements may still be on their way to a Q without a leader: the broker answers a commit when T
    /// has the messages, and does not wait for Q.
    pub(super) fn has_committed(&self) -> bool {
        self.has_committed
    }

    /// Whether it is time to look though there is nothing to hand over.
    pub(super) fn is_due(&self) -> bool {
        self.looked.elapsed() >= IDLE_PAUSE
    }

    /// Whether cinder-volume is still there while there is nothing to hand over.
    ///
    /// # Errors
    ///
    /// Why Q cannot be consumed any longer.
    pub(super) async fn idly(&mut self, task: &TaskHandle) -> Result<(), StandAside> {
        let requirements = TopicRequirements {
            backlog: u32::MAX,
            answer: IDLE_ANSWER,
        };
        self.look(requirements, task).await.map(drop)
    }

    /// Waits until Q has a leader that has got the acknowledgements of what was committed, as far as the broker says so
    /// soon. Nothing else that is found matters any more.
    pub(super) async fn last(
        &mut self,
        connection: &Connection,
        task: &TaskHandle,
    ) -> Result<(), StandAside> {
        for probe in [&mut self.topic, &mut self.server] {
            if probe.has_given_up() {
                *probe = Probe::open(connection).await?;
            }
        }
        let requirements = TopicRequirements {
            backlog: u32::MAX,
            ..BEFORE_COMMIT
        };
        self.look(requirements, task).await.map(drop)
    }

    /// Both queues are there, others than we consume each, T as many as before, no more waits on T
    /// than is demanded, and the broker says so in time.
    ///
    /// While the leader of a quorum queue is out of reach, the broker answers at once that the queue has no consumers
    /// and no messages. For Q this is false, as we consume it. Cancelling our consumer, or consuming anew, would block
    /// the whole channel for 65 s (`rabbit_fifo_client`, `try_process_command`), while the next leader delivers to it.
    /// Closing the channel would drop outstanding acknowledgements, which the next leader gets from the channel. So
    /// this waits until there is a leader, [`NEXT_LEADER`] at most. Until then nobody else gets anything from Q either.
    async fn look(
        &mut self,
        requirements: TopicRequirements,
        task: &TaskHandle,
    ) -> Result<(QueueState, QueueState), StandAside> {
        self.looked = tokio::time::Instant::now();
        let leaderless = self.looked + NEXT_LEADER;
        let mut waiting = None;
        let mut patience = tokio::time::Instant::now() + BACKLOG_PATIENCE;
        loop {
            let (topic, server) = join!(
                find(&self.topic, &self.names.topic, requirements.answer),
                find(&self.server, &self.names.server, requirements.answer),
            );
            let (server, topic) = (server?, topic?);
            debug!(queue = %self.names.topic, ?topic, ?server, "looked up");
            let now = tokio::time::Instant::now();
            if self.consumers.is_leaderless(server, self.has_committed) {
                if now >= leaderless {
                    return Err(StandAside::Slow(NEXT_LEADER));
                }
                task.heartbeat();
                waiting.get_or_insert_with(|| self.unsettled.begin());
                patience = now + LEADER_PAUSE + BACKLOG_PATIENCE;
                tokio::time::sleep(LEADER_PAUSE).await;
                continue;
            }
            self.has_committed = false;
            self.consumers.judge(&self.names, topic, server)?;
            if topic.ready <= requirements.backlog {
                return Ok((topic, server));
            }
            if now >= patience {
                return Err(StandAside::Backlog(self.names.topic.clone()));
            }
            tokio::time::sleep(BACKLOG_PAUSE).await;
        }
    }

    /// Whether the consumers of T are all gone or complete again; `None` if the broker does not say
    /// so within `limit`.
    ///
    /// # Errors
    ///
    /// What else a look can end with.
    pub(super) async fn is_decided(&self, limit: Duration) -> Result<Option<bool>, StandAside> {
        match find(&self.topic, &self.names.topic, limit).await {
            Ok(topic) => Ok(Some(
                topic.consumers == 0 || topic.consumers >= self.consumers.topic,
            )),
            Err(StandAside::Slow(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Closes its channels.
    pub(super) async fn close(self) {
        self.topic.close().await;
        self.server.close().await;
    }
}

impl Consumers {
    /// Whether Q has fewer consumers than our own, which says that it has no leader. Where acknowledgements may be on
    /// their way, none at all says so, too: our consumer may be cancelled by then.
    fn is_leaderless(&self, server: QueueState, has_committed: bool) -> bool {
        server.consumers < self.ours.max(u32::from(has_committed))
    }

    /// Whether both queues have the consumers that they must have.
    fn judge(
        &mut self,
        names: &TopicNames,
        topic: QueueState,
        server: QueueState,
    ) -> Result<(), StandAside> {
        if topic.consumers == 0 {
            return Err(StandAside::Unattended(names.topic.clone()));
        }
        if topic.consumers < self.topic {
            return Err(StandAside::Leaving(names.topic.clone()));
        }
        if server.consumers <= self.ours {
            return Err(StandAside::Alone(names.server.clone()));
        }
        self.topic = topic.consumers;
        Ok(())
    }
}

async fn find(probe: &Probe, queue: &str, limit: Duration) -> Result<QueueState, StandAside> {
    match probe.find(queue, limit).await {
        Ok(Some(standing)) => Ok(standing),
        Ok(None) => Err(StandAside::Slow(limit)),
        Err(error) if is_missing(&error) => Err(StandAside::Missing(queue.to_owned())),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Address;

    fn consumed_by(consumers: u32) -> QueueState {
        QueueState {
            ready: 0,
            consumers,
        }
    }

    #[test]
    fn fewer_consumers_than_ours_say_that_nobody_knows() {
        let mut consumers = Consumers::default();
        assert!(!consumers.is_leaderless(consumed_by(0), false));
        consumers.ours = 1;
        assert!(consumers.is_leaderless(consumed_by(0), false));
        // Cinder-volume has left: that is known.
        assert!(!consumers.is_leaderless(consumed_by(1), false));
        assert!(!consumers.is_leaderless(consumed_by(2), false));
        // Our consumer is cancelled.
        consumers.ours = 0;
        assert!(consumers.is_leaderless(consumed_by(0), true));
        assert!(!consumers.is_leaderless(consumed_by(1), true));
    }

    #[test]
    fn both_queues_must_keep_the_consumers_of_cinder_volume() {
        let address = Address::of_volume_host("node@lvm#pool");
        let names = TopicNames::of("openstack", &address);
        let mut consumers = Consumers { topic: 0, ours: 1 };
        let mut judge =
            |topic, server| consumers.judge(&names, consumed_by(topic), consumed_by(server));
        assert!(matches!(judge(0, 2), Err(StandAside::Unattended(_))));
        assert!(judge(1, 2).is_ok());
        assert!(judge(2, 2).is_ok());
        assert!(matches!(judge(1, 2), Err(StandAside::Leaving(_))));
        assert!(matches!(judge(2, 1), Err(StandAside::Alone(_))));
    }
}
