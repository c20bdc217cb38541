//! Whether another daemon serves where we would: asked on the daemon's own topic.
//!
//! All daemons of one host and backend have a queue there, and each gets a copy of what is sent to it. So a question
//! names the daemon that asks, and the others decide by that name whether they answer:
//!
//! - A daemon that serves answers every other daemon.
//! - A daemon that waits for one that shows no sign of life, or may serve without a claim, answers only daemons whose
//!   name sorts behind its own. Of several that wait so the first hears nothing, and serves.
//! - A daemon that waits for somebody it has seen answers no daemon. Neither does one without a connection for Q, and
//!   one in mode direct.

use std::sync::Arc;
use std::time::Duration;

use lapin::Channel;
use lapin::message::Delivery;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use uuid::Uuid;

use super::caller::Caller;
use super::connection::{Connection, ConnectionError};
use super::topology::TopicNames;

/// How long answers may take, from the last question on. Nothing is looked up for an answer, and whoever cannot give it
/// does not serve either.
const ANSWER: Duration = Duration::from_secs(2);

/// How long asking may take in all. The broker may not confirm a question before it notices that a node of it is
/// gone, on which the own topic of a dead connection has a queue.
const ASKING: Duration = Duration::from_secs(4);

/// What the names of all daemons begin with.
const PREFIX: &str = "cinder-progress:";

/// This daemon among all that serve the same topic. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DaemonIdentity(Arc<DaemonIdentityInner>);

#[derive(Debug)]
struct DaemonIdentityInner {
    /// The property `app_id` of its questions.
    name: String,
    standing: Mutex<Standing>,
}

/// How a daemon stands towards Q.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It has no connection for Q, or waits for somebody it has seen.
    Away,
    /// It waits for a daemon that shows no sign of life, or may serve without a claim.
    Waiting,
    /// It consumes Q, or stands aside for cinder-volume.
    Serving,
}

/// That a daemon has a connection for Q, until this is dropped.
#[derive(Debug)]
pub struct Presence(DaemonIdentity);

impl Default for DaemonIdentity {
    /// A name that no other daemon has.
    fn default() -> Self {
        Self::named(&Uuid::new_v4().to_string())
    }
}

impl DaemonIdentity {
    fn named(name: &str) -> Self {
        Self(Arc::new(DaemonIdentityInner {
            name: format!("{PREFIX}{name}"),
            standing: Mutex::new(Standing::Away),
        }))
    }

    /// From now on it has a connection for Q.
    #[must_use]
    pub fn comes(&self) -> Presence {
        Presence(self.clone())
    }

    fn stands(&self, standing: Standing) {
        *self.0.standing.lock() = standing;
    }

    /// Whether a message on the own topic is answered. Callers that are no daemon always are.
    pub(super) fn is_to_answer(&self, question: &Delivery) -> bool {
        let asks = question.properties.app_id().as_ref();
        let Some(asks) = asks.filter(|name| name.as_str().starts_with(PREFIX)) else {
            return true;
        };
        let own = self.0.name.as_str();
        match *self.0.standing.lock() {
            Standing::Away => false,
            Standing::Waiting => own < asks.as_str(),
            Standing::Serving => own != asks.as_str(),
        }
    }
}

impl Presence {
    /// From now on it waits; `unseen`: for a daemon that is not seen to serve.
    pub(super) fn waits(&self, unseen: bool) {
        self.0.stands(if unseen {
            Standing::Waiting
        } else {
            Standing::Away
        });
    }

    /// From now on it serves Q.
    pub fn serves(&self) {
        self.0.stands(Standing::Serving);
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.stands(Standing::Away);
    }
}

/// A question that every daemon answers.
pub struct Ping {
    /// The queue for the answer.
    pub reply_queue: String,
    /// The body.
    pub body: Vec<u8>,
}

/// How others are asked.
#[derive(Clone, Copy)]
pub struct Neighbours<'a> {
    /// Who asks.
    pub presence: &'a Presence,
    /// The own topic of each backend.
    pub own_topics: &'a [TopicNames],
    /// Makes a question.
    pub ping: fn() -> Ping,
}

impl Neighbours<'_> {
    /// Whether another daemon answers on the own topic of one of these backends, which are all asked at once.
    ///
    /// A daemon that may not ask, or is answered too late, takes that for no answer.
    ///
    /// # Errors
    ///
    /// What ended the connection.
    pub(super) async fn answer(
        &self,
        connection: &Connection,
        backends: &[usize],
    ) -> Result<bool, ConnectionError> {
        let own_topics = backends
            .iter()
            .filter_map(|&backend| self.own_topics.get(backend).cloned());
        let question = OutgoingPing {
            ping: (self.ping)(),
            name: self.presence.0.0.name.clone(),
            own_topics: own_topics.collect(),
        };
        // In a task of its own, which is never dropped: a channel that is closed while the broker refuses something on
        // it may end the whole connection, see `probe`.
        let asking = question.ask(connection.channel().await?, connection.end());
        match tokio::time::timeout(ASKING, tokio::spawn(asking)).await {
            // Most likely of this channel alone, as without the exchange. What else has ended is seen by whoever asked.
            Ok(Ok(Err(ConnectionError::Amqp(error)))) => {
                debug!(%error, "cannot ask for another daemon");
                Ok(false)
            }
            Ok(Ok(answered)) => answered,
            // Too late. Or the task has panicked, which is logged.
            Err(_) | Ok(Err(_)) => Ok(false),
        }
    }
}

/// One ping to several own topics.
struct OutgoingPing {
    ping: Ping,
    name: String,
    own_topics: Vec<TopicNames>,
}

impl OutgoingPing {
    async fn ask(
        self,
        channel: Channel,
        ended: CancellationToken,
    ) -> Result<bool, ConnectionError> {
        let caller = Caller::open_on(channel, ended, &self.ping.reply_queue).await?;
        let mut caller = caller.named(&self.name);
        let to = self.own_topics.iter();
        let to: Vec<_> = to.map(|names| (&*names.exchange, &*names.server)).collect();
        caller.is_answered(&to, &self.ping.body, ANSWER).await
    }
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;

    use super::*;

    fn question(app_id: Option<&str>) -> Delivery {
        let mut question = Delivery::mock(1, "".into(), "q".into(), false, vec![]);
        if let Some(app_id) = app_id {
            question.properties = BasicProperties::default().with_app_id(app_id.into());
        }
        question
    }

    /// Whether `answers` answers a question of `asks`.
    fn is_answered(asks: &DaemonIdentity, answers: &DaemonIdentity) -> bool {
        answers.is_to_answer(&question(Some(&asks.0.name)))
    }

    #[test]
    fn a_caller_that_is_no_daemon_is_always_answered() {
        let identity = DaemonIdentity::default();
        let presence = identity.comes();
        for app_id in [None, Some("cinder-api"), Some("")] {
            presence.waits(false);
            assert!(identity.is_to_answer(&question(app_id)));
            presence.waits(true);
            assert!(identity.is_to_answer(&question(app_id)));
            presence.serves();
            assert!(identity.is_to_answer(&question(app_id)));
        }
    }

    #[test]
    fn of_daemons_that_wait_the_first_is_not_answered_and_of_one_that_serves_all_are() {
        let [first, second] = ["a", "b"].map(DaemonIdentity::named);
        assert!(!is_answered(&first, &second) && !is_answered(&second, &first));
        let (one, other) = (first.comes(), second.comes());
        one.waits(true);
        other.waits(true);
        assert!(!is_answered(&first, &second));
        assert!(is_answered(&second, &first));
        one.serves();
        assert!(is_answered(&second, &first));
        assert!(!is_answered(&first, &first));
        drop(one);
        assert!(!is_answered(&second, &first));
        other.serves();
        assert!(is_answered(&first, &second));
    }

    #[test]
    fn a_daemon_that_waits_for_somebody_it_sees_keeps_nobody_waiting() {
        let [first, second] = ["a", "b"].map(DaemonIdentity::named);
        let presence = first.comes();
        presence.waits(false);
        assert!(!is_answered(&second, &first));
    }
}
