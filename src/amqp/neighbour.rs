//! Whether another daemon serves where we would: asked on the daemon's own topic.
//!
//! All daemons of one host and backend have a queue there, and each gets a copy of what is sent to it. We may be one of
//! them, so a question says which process asks, and that one does not answer it.

use std::sync::LazyLock;
use std::time::Duration;

use lapin::message::Delivery;
use tracing::debug;
use uuid::Uuid;

use super::caller::{Caller, Sent};
use super::connection::{Connection, ConnectionError};
use super::topology::{TopicNames, is_soft};

/// How long an answer may take. Nothing is looked up for it, and whoever cannot give it does not serve either.
const ANSWER: Duration = Duration::from_secs(2);

/// The name of this process among all that serve the same topic: the property `app_id` of its questions.
static PROCESS: LazyLock<String> = LazyLock::new(|| format!("cinder-progress:{}", Uuid::new_v4()));

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
    /// The own topic of each backend.
    pub own_topics: &'a [TopicNames],
    /// Makes a question.
    pub ping: fn() -> Ping,
}

impl Neighbours<'_> {
    /// Whether another daemon answers on the own topic of this backend.
    ///
    /// Who may not ask, or is answered too late, hears of nobody.
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
        let ping = (self.ping)();
        let mut caller = match Caller::open(connection, &ping.reply_queue).await {
            Ok(caller) => caller.named(&PROCESS),
            Err(ConnectionError::Amqp(error)) if is_soft(&error) => {
                debug!(%error, "cannot ask for another daemon");
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let asking = async {
            let sent = caller.send(&names.exchange, &names.server, &ping.body, ANSWER);
            match sent.await? {
                Sent::Taken => caller.next().await.map(|_| true),
                Sent::NoQueue | Sent::NoExchange | Sent::Refused => Ok(false),
            }
        };
        match tokio::time::timeout(ANSWER, asking).await {
            Ok(Err(ConnectionError::Amqp(error))) if is_soft(&error) => Ok(false),
            Ok(answered) => answered,
            Err(_) => Ok(false),
        }
    }
}

/// Whether this process has asked this.
pub(super) fn is_own(question: &Delivery) -> bool {
    let asks = question.properties.app_id().as_ref();
    asks.is_some_and(|process| process.as_str() == PROCESS.as_str())
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;

    use super::*;

    #[test]
    fn a_question_of_ones_own_is_known() {
        let mut question = Delivery::mock(1, "".into(), "q".into(), false, vec![]);
        assert!(!is_own(&question));
        question.properties = BasicProperties::default().with_app_id("cinder-progress".into());
        assert!(!is_own(&question));
        question.properties = BasicProperties::default().with_app_id(PROCESS.as_str().into());
        assert!(is_own(&question));
    }
}
