//! Whether another daemon serves where we would: asked on the daemon's own topic.
//!
//! All daemons of one host and backend have a queue there, and each gets a copy of what is sent to it. So a question
//! names the daemon that asks, and the others decide by that name whether they answer:
//!
//! - A daemon that serves answers every other daemon.
//! - A daemon that waits answers only daemons whose name sorts behind its own. Of several that wait the first hears
//!   nothing, and serves.
//! - A daemon without a connection for Q answers no daemon, and neither does one in mode direct.

use std::sync::Arc;
use std::time::Duration;

use lapin::message::Delivery;
use parking_lot::Mutex;
use tracing::debug;
use uuid::Uuid;

use super::caller::{Caller, Sent};
use super::connection::{Connection, ConnectionError};
use super::topology::{TopicNames, is_soft};

/// How long asking may take in all. Nothing is looked up for an answer, and whoever cannot give it does not serve either.
const ANSWER: Duration = Duration::from_secs(2);

/// What the names of all daemons begin with.
const PREFIX: &str = "cinder-progress:";

/// This daemon among all that serve the same topic. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Identity(Arc<IdentityInner>);

#[derive(Debug)]
struct IdentityInner {
    /// The property `app_id` of its questions.
    name: String,
    standing: Mutex<Standing>,
}

/// How a daemon stands towards Q.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It has no connection for Q.
    Away,
    /// It waits until Q is free.
    Waiting,
    /// It consumes Q, or stands aside for cinder-volume.
    Serving,
}

/// That a daemon has a connection for Q, until this is dropped.
#[derive(Debug)]
pub struct Presence(Identity);

impl Default for Identity {
    /// A name that no other daemon has.
    fn default() -> Self {
        Self::named(&Uuid::new_v4().to_string())
    }
}

impl Identity {
    fn named(name: &str) -> Self {
        Self(Arc::new(IdentityInner {
            name: format!("{PREFIX}{name}"),
            standing: Mutex::new(Standing::Away),
        }))
    }

    /// From now on it has a connection for Q, and waits until Q is free.
    #[must_use]
    pub fn waits(&self) -> Presence {
        self.stands(Standing::Waiting);
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
    pub identity: &'a Identity,
    /// The own topic of each backend.
    pub own_topics: &'a [TopicNames],
    /// Makes a question.
    pub ping: fn() -> Ping,
}

impl Neighbours<'_> {
    /// Whether another daemon answers on the own topic of this backend.
    ///
    /// A daemon that may not ask, or is answered too late, takes that for no answer.
    ///
    /// # Errors
    ///
    /// What ended the connection.
    pub(super) async fn answers(
        &self,
        connection: &Connection,
        backend: usize,
    ) -> Result<bool, ConnectionError> {
        let Some(names) = self.own_topics.get(backend) else {
            return Ok(false);
        };
        match tokio::time::timeout(ANSWER, self.ask(connection, names)).await {
            Ok(Err(ConnectionError::Amqp(error))) if is_soft(&error) => {
                debug!(%error, "cannot ask for another daemon");
                Ok(false)
            }
            Ok(answered) => answered,
            Err(_) => Ok(false),
        }
    }

    async fn ask(
        &self,
        connection: &Connection,
        names: &TopicNames,
    ) -> Result<bool, ConnectionError> {
        let ping = (self.ping)();
        let caller = Caller::open(connection, &ping.reply_queue).await?;
        let mut caller = caller.named(&self.identity.0.name);
        let sent = caller.send(&names.exchange, &names.server, &ping.body, ANSWER);
        match sent.await? {
            Sent::Taken => caller.next().await.map(|_| true),
            Sent::NoQueue | Sent::NoExchange | Sent::Refused => Ok(false),
        }
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
    fn is_answered(asks: &Identity, answers: &Identity) -> bool {
        answers.is_to_answer(&question(Some(&asks.0.name)))
    }

    #[test]
    fn a_caller_that_is_no_daemon_is_always_answered() {
        let identity = Identity::default();
        for app_id in [None, Some("cinder-api"), Some("")] {
            assert!(identity.is_to_answer(&question(app_id)));
            let presence = identity.waits();
            assert!(identity.is_to_answer(&question(app_id)));
            presence.serves();
            assert!(identity.is_to_answer(&question(app_id)));
        }
    }

    #[test]
    fn of_daemons_that_wait_the_first_is_not_answered_and_of_one_that_serves_all_are() {
        let [first, second] = ["a", "b"].map(Identity::named);
        assert!(!is_answered(&first, &second) && !is_answered(&second, &first));
        let (waits, _also_waits) = (first.waits(), second.waits());
        assert!(!is_answered(&first, &second));
        assert!(is_answered(&second, &first));
        waits.serves();
        assert!(is_answered(&second, &first));
        assert!(!is_answered(&first, &first));
        drop(waits);
        assert!(!is_answered(&second, &first));

        let waits = second.waits();
        waits.serves();
        assert!(is_answered(&first, &second));
    }
}
