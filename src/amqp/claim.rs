//! Finds a second daemon on the server queue, or a cinder-volume where standalone expects none.
//!
//! **Where trouble comes from.** Two daemons on one queue answer in turns, each for its own node, so
//! each claims the queue. But a claim may outlive its daemon: for as long as the broker has not
//! noticed the end of a connection, and from RabbitMQ 4.2 on, where the broker node of the connection
//! was killed, until that node is back.
//!
//! **The rule.** A claim is a hint. A claim holds while its daemon shows signs of life: the broker node of the claim
//! answers, and Q has more consumers than cinder-volume's. Consumers alone prove nothing: a quorum queue counts those
//! of a killed node until that node is back. A daemon that stands aside consumes nothing, so a claim without consumers
//! is checked by a question on the daemon's own topic. No sign of life for ten seconds and no answer: the daemon that
//! waits serves all the same. Until then it says in log and status for whom it waits.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::connection::backoff::Backoff;
use super::connection::{Connection, ConnectionError};
use super::handover::probe::Probe;
use super::neighbour::Neighbours;
use super::topology::{
    TopicNames, is_locked, is_missing, is_precondition, is_refused, is_soft, look_up,
};
use crate::liveness::{TaskHandle, TaskState};

/// How long a claim holds whose daemon shows no sign of life. Longer than a daemon usually stands
/// aside while cinder-volume restarts.
const UNSEEN: Duration = Duration::from_secs(10);

/// The same on queues that this process has served before: the claim is most likely from our own last connection.
const UNSEEN_AGAIN: Duration = Duration::from_secs(3);

/// How long a claim holds whose daemon has answered. A claim nearly always ends with its connection, and each question
/// is a line in the other daemon's log.
const ANSWERED: Duration = Duration::from_secs(60);

/// How long the broker node of a claim may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// Between two looks: a refused claim is a line in the broker's log.
const PAUSE: Duration = Duration::from_secs(1);

/// First, further and longest wait between two tries to claim what is served without a claim. Each closes a channel,
/// and a connection has two thousand.
const COMPLETING: [Duration; 3] = [
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(300),
];

/// Which other consumer belongs on our queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedConsumers {
    /// A cinder-volume.
    CinderVolume,
    /// Nobody.
    Nobody,
}

impl ExpectedConsumers {
    /// Consumers of Q besides a daemon's.
    fn consumers(self) -> u32 {
        match self {
            Self::CinderVolume => 1,
            Self::Nobody => 0,
        }
    }
}

/// What keeps us from serving.
struct Occupied {
    /// Who, and what to do about it.
    by: String,
    backend: usize,
    how: How,
}

/// How a queue is occupied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// By somebody who consumes it.
    Seen,
    /// By a claim whose daemon shows no sign of life.
    Unseen,
    /// The claim is ours, and more consume Q than belong there: perhaps a daemon without a claim.
    Crowded,
}

/// How long the daemon of a claim has shown no sign of life.
#[derive(Debug)]
struct Silence {
    since: Instant,
    /// How long it may last before the daemon is asked.
    patience: Duration,
    first_patience: Duration,
    /// A daemon has been asked, for this, and has answered.
    answered: Option<How>,
}

impl Silence {
    /// Begins now. `served`: this process has served these queues before.
    fn new(served: bool) -> Self {
        let first_patience = if served { UNSEEN_AGAIN } else { UNSEEN };
        Self {
            since: Instant::now(),
            patience: first_patience,
            first_patience,
            answered: None,
        }
    }

    /// The daemon is seen to serve.
    fn broken(&mut self) {
        (self.since, self.patience) = (Instant::now(), self.first_patience);
        self.answered = None;
    }

    /// The daemon has answered, and is not seen to serve.
    fn answered(&mut self, how: How) {
        let patience = match how {
            How::Unseen => ANSWERED,
            // Nothing tells how its daemon ends.
            How::Seen | How::Crowded => UNSEEN,
        };
        (self.since, self.patience) = (Instant::now(), patience);
        self.answered = Some(how);
    }

    /// Whether a daemon is to be asked. One that may serve without a claim is asked at once.
    fn is_over(&self, how: How) -> bool {
        (how == How::Crowded && self.answered != Some(how)) || self.since.elapsed() >= self.patience
    }
}

/// The claims of one connection on the queues of all backends.
pub struct Claims<'a> {
    connection: &'a Connection,
    backends: &'a [TopicNames],
    expected: ExpectedConsumers,
    served: bool,
    neighbours: Neighbours<'a>,
    /// The backends that are claimed.
    claimed: Vec<bool>,
}

/// What came of asking the daemons that keep us from serving and are not seen to consume.
enum Asked {
    /// Nobody has answered: they are dead.
    Nobody,
    /// Another daemon has answered.
    Answered,
    /// One of our other queues is in use.
    Seen,
}

impl<'a> Claims<'a> {
    /// None yet, of the queues of `backends`, on which the `expected` consumers belong.
    ///
    /// `served`: this process has served before. Other consumers on queues that are to be ours alone may then be
    /// those of our own last connection, so they are not looked for.
    #[must_use]
    pub fn new(
        connection: &'a Connection,
        backends: &'a [TopicNames],
        expected: ExpectedConsumers,
        served: bool,
        neighbours: Neighbours<'a>,
    ) -> Self {
        Self {
            connection,
            backends,
            expected,
            served,
            neighbours,
            claimed: vec![false; backends.len()],
        }
    }

    /// Claims the queues of all backends. Waits for as long as another consumer holds one of them, and shows it by
    /// `task`. Returns soon after `stop` is cancelled.
    ///
    /// # Errors
    ///
    /// What ended the connection.
    pub async fn obtain(
        &mut self,
        task: &TaskHandle,
        stop: &CancellationToken,
    ) -> Result<(), ConnectionError> {
        let mut silence = Silence::new(self.served);
        let mut said = String::new();
        loop {
            let occupied = match task.beating(self.look_around()).await? {
                Some(occupied) => occupied,
                // A daemon that has answered may stand aside, and consumes nothing then.
                None if silence.answered.is_some() => self.rival(self.ordered()[0]),
                None => return Ok(()),
            };
            let queue = &self.backends[occupied.backend].server;
            self.neighbours.presence.waits(occupied.how != How::Seen);
            // Each look at a claim that is held closes a channel.
            if self.connection.is_worn() {
                return Err(ConnectionError::Worn);
            }
            if occupied.how == How::Seen {
                silence.broken();
            } else if silence.is_over(occupied.how) {
                match task.beating(self.ask(silence.answered.is_some())).await? {
                    Asked::Nobody => {
                        if occupied.how == How::Unseen {
                            warn!(%queue, "the claim's daemon shows no sign of life: serving");
                        }
                        return Ok(());
                    }
                    Asked::Answered => {
                        info!(%queue, "another cinder-progress answers on its own topic");
                        silence.answered(occupied.how);
                    }
                    Asked::Seen => silence.broken(),
                }
            }
            if said != occupied.by {
                warn!(cause = %occupied.by, "waiting");
                said.clone_from(&occupied.by);
            }
            task.does(TaskState::Occupied(occupied.by));
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.connection.ended() => return Err(ConnectionError::Ended),
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Tries again to claim what is served without a claim, until that is done, or the connection fails. A claim
    /// without a daemon goes when its broker node is back, and would be free for a second daemon.
    pub async fn complete(&mut self) {
        let [first, step, longest] = COMPLETING;
        let mut backoff = Backoff::new(first, step, longest);
        while self.claimed.contains(&false) && !self.connection.is_worn() {
            tokio::time::sleep(backoff.wait()).await;
            for backend in 0..self.backends.len() {
                if !self.claimed[backend] {
                    match claim(self.connection, &self.backends[backend]).await {
                        Ok(claimed) => self.claimed[backend] = claimed,
                        Err(ConnectionError::Amqp(error)) if is_soft(&error) => {}
                        Err(error) => {
                            debug!(%error, "cannot claim what is served");
                            return;
                        }
                    }
                }
            }
        }
    }

    /// The backends in the order in which all daemons claim. In different orders each of two could get one of two
    /// queues, and wait.
    fn ordered(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.backends.len()).collect();
        order.sort_by_key(|&backend| &self.backends[backend].server);
        order
    }

    /// Claims one backend after the other, up to the first that is occupied.
    async fn look_around(&mut self) -> Result<Option<Occupied>, ConnectionError> {
        for backend in self.ordered() {
            let occupied = self.look_at(backend).await?;
            if occupied.is_some() {
                return Ok(occupied);
            }
        }
        for backend in self.ordered() {
            if self.is_crowded(backend).await? {
                return Ok(Some(self.rival(backend)));
            }
        }
        Ok(None)
    }

    /// A daemon without a claim on this backend.
    fn rival(&self, backend: usize) -> Occupied {
        Occupied {
            by: another(&self.backends[backend].server),
            backend,
            how: How::Crowded,
        }
    }

    /// Claims this backend, if that is not done yet. Returns who occupies it.
    async fn look_at(&mut self, backend: usize) -> Result<Option<Occupied>, ConnectionError> {
        let names = &self.backends[backend];
        if !self.claimed[backend] {
            self.claimed[backend] = claim(self.connection, names).await?;
        }
        if !self.claimed[backend] {
            let how = if is_attended(self.connection, &names.server, self.expected).await? {
                How::Seen
            } else {
                How::Unseen
            };
            let by = another(&names.server);
            return Ok(Some(Occupied { by, backend, how }));
        }
        if self.expected != ExpectedConsumers::Nobody || self.served {
            return Ok(None);
        }
        let strangers = strangers(self.connection, names).await?;
        Ok(strangers.map(|by| Occupied {
            by,
            backend,
            how: How::Seen,
        }))
    }

    /// Whether more consume Q than belong there. A daemon that takes another one for dead serves without a claim, and
    /// the claim may be free later.
    async fn is_crowded(&self, backend: usize) -> Result<bool, ConnectionError> {
        let queue = &self.backends[backend].server;
        Ok(match consumers(self.connection, queue).await? {
            Ok(consumers) => consumers > self.expected.consumers(),
            Err(Unknown::Missing) => false,
            // Whoever serves it may be asked all the same.
            Err(Unknown::Silent) => true,
        })
    }

    /// Asks all daemons that keep us from serving without being seen, at once; with `all` those of all our queues.
    /// Claims all queues that are free, before and after.
    async fn ask(&mut self, all: bool) -> Result<Asked, ConnectionError> {
        let mut backends = Vec::new();
        for backend in self.ordered() {
            match self.look_at(backend).await? {
                Some(occupied) if occupied.how == How::Seen => return Ok(Asked::Seen),
                Some(_) => backends.push(backend),
                None if all || self.is_crowded(backend).await? => backends.push(backend),
                None => {}
            }
        }
        if self.neighbours.answer(self.connection, &backends).await? {
            return Ok(Asked::Answered);
        }
        // The daemon that was asked may just have ended.
        for backend in backends {
            if !self.claimed[backend] {
                self.claimed[backend] = claim(self.connection, &self.backends[backend]).await?;
            }
        }
        Ok(Asked::Nobody)
    }
}

/// Whom we wait for, and what to do about it.
fn another(queue: &str) -> String {
    format!("another cinder-progress serves {queue}: stop it, or give this one another host")
}

/// Whether the daemon that has claimed Q is to be waited for: the queue that is its claim can be reached, and more
/// than the expected consumers consume Q. Where Q is missing there is nothing to serve yet beside cinder-volume.
async fn is_attended(
    connection: &Connection,
    queue: &str,
    expected: ExpectedConsumers,
) -> Result<bool, ConnectionError> {
    if !is_in_reach(connection, &claim_of(queue)).await? {
        return Ok(false);
    }
    Ok(match consumers(connection, queue).await? {
        Ok(consumers) => consumers > expected.consumers(),
        Err(Unknown::Missing) => expected == ExpectedConsumers::CinderVolume,
        Err(Unknown::Silent) => true,
    })
}

/// Why the consumers of a queue are not known.
enum Unknown {
    Missing,
    /// Its broker node does not answer, or the broker does not tell this user.
    Silent,
}

/// How many consume a queue, if the broker says so soon.
async fn consumers(
    connection: &Connection,
    queue: &str,
) -> Result<Result<u32, Unknown>, ConnectionError> {
    let probe = Probe::open(connection).await?;
    let found = probe.find(queue, ANSWER).await;
    probe.close().await;
    match found {
        Ok(Some(found)) => Ok(Ok(found.consumers)),
        Ok(None) => Ok(Err(Unknown::Silent)),
        Err(error) if is_missing(&error) => Ok(Err(Unknown::Missing)),
        Err(error) if is_soft(&error) => Ok(Err(Unknown::Silent)),
        Err(error) => Err(error.into()),
    }
}

/// Whether the broker node that has the exclusive queue of another connection answers.
///
/// Unlike a declare, a passive look reaches the queue itself before the broker refuses it (405). Where the queue's node
/// is down the broker says that there is no such queue (404); where the node hangs, nothing comes.
async fn is_in_reach(connection: &Connection, queue: &str) -> Result<bool, ConnectionError> {
    let probe = Probe::open(connection).await?;
    let found = probe.find(queue, ANSWER).await;
    probe.close().await;
    match found {
        Ok(found) => Ok(found.is_some()),
        Err(error) if is_missing(&error) => Ok(false),
        // Locked, or the broker does not tell this user.
        Err(error) if is_soft(&error) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Claims the server queue for this connection, so that a second daemon finds it claimed.
///
/// The claim is an exclusive queue of our own, named after the server queue; the broker deletes the claim with the
/// connection. Nothing of cinder's is touched. A user who may not declare queues, or no more of them, serves without
/// a claim. Returns false where another connection has the claim.
///
/// # Errors
///
/// What ended the connection.
async fn claim(connection: &Connection, names: &TopicNames) -> Result<bool, ConnectionError> {
    let queue = &names.server;
    let claimed = connection
        .channel()
        .await?
        .queue_declare(
            claim_of(queue).into(),
            QueueDeclareOptions {
                exclusive: true,
                auto_delete: true,
                ..QueueDeclareOptions::default()
            },
            FieldTable::default(),
        )
        .await;
    match claimed {
        Ok(_) => Ok(true),
        Err(error) if is_locked(&error) => Ok(false),
        Err(error) if is_refused(&error) || is_precondition(&error) => {
            warn!(%queue, %error, "cannot claim the queue: a second daemon would not be noticed");
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

/// The name of the claim on a server queue.
#[must_use]
pub fn claim_of(server_queue: &str) -> String {
    format!("cinder-progress.{server_queue}")
}

/// Which consumers the topic's queues have already, and what to do about it.
async fn strangers(
    connection: &Connection,
    names: &TopicNames,
) -> Result<Option<String>, ConnectionError> {
    for queue in [&names.server, &names.topic] {
        match look_up(&connection.channel().await?, queue).await {
            Ok(standing) if standing.consumers == 0 => {}
            Ok(standing) => {
                return Ok(Some(format!(
                    "{} other consumers on {queue}, as of a cinder-volume: with [progress] mode = \
                     standalone we would take half of its operations; set mode = sidecar",
                    standing.consumers
                )));
            }
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_daemon_is_asked_after_ten_seconds_of_silence_and_after_three_where_this_one_has_served()
     {
        for (served, patience) in [(false, 10), (true, 3)] {
            let mut silence = Silence::new(served);
            advance(Duration::from_secs(patience - 1)).await;
            assert!(!silence.is_over(How::Unseen));
            silence.broken();
            advance(Duration::from_secs(patience - 1)).await;
            assert!(!silence.is_over(How::Unseen));
            advance(Duration::from_secs(1)).await;
            assert!(silence.is_over(How::Unseen));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_has_answered_is_left_in_peace_for_a_minute_until_it_is_seen_to_serve() {
        let mut silence = Silence::new(false);
        silence.answered(How::Unseen);
        advance(Duration::from_secs(59)).await;
        assert!(!silence.is_over(How::Unseen));
        silence.broken();
        advance(UNSEEN).await;
        assert!(silence.is_over(How::Unseen));
        silence.answered(How::Unseen);
        advance(ANSWERED).await;
        assert!(silence.is_over(How::Unseen));
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_without_a_claim_is_asked_at_once_and_again_after_ten_seconds() {
        let mut silence = Silence::new(false);
        assert!(silence.is_over(How::Crowded));
        silence.answered(How::Crowded);
        assert!(!silence.is_over(How::Crowded));
        advance(UNSEEN).await;
        assert!(silence.is_over(How::Crowded));
        silence.answered(How::Crowded);
        silence.broken();
        assert!(silence.is_over(How::Crowded));
        // Its claim is free: it has ended, or serves without one.
        silence.answered(How::Unseen);
        assert!(silence.is_over(How::Crowded));
    }

    #[test]
    fn a_claim_is_named_after_its_queue() {
        let queue = "cinder-volume.node@lvm.node";
        assert_eq!(
            claim_of(queue),
            "cinder-progress.cinder-volume.node@lvm.node"
        );
    }
}
