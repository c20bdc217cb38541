//! As what a queue was declared: its type, and whether it is durable.
//!
//! A passive declare does not tell. So a queue is declared that can never come to be, of a type
//! that does not exist: the broker refuses (406) and names what the queue that is there has
//! otherwise. Where there is none, it refuses the type.

use std::fmt::{self, Display};

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable, LongString};
use uuid::Uuid;

use super::connection::{Connection, ConnectionError};
use super::topology::{is_precondition, is_refused};

/// The argument that holds the type, since RabbitMQ 3.8.
const TYPE: &str = "x-queue-type";

/// No broker has queues of this type.
const NO_TYPE: &str = "cinder-progress-asks";

/// The only type there was before there were types.
const CLASSIC: &str = "classic";

/// Durable, auto-delete, type: each refusal tells one of them.
const QUESTIONS: usize = 3;

/// As what a queue was declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// `classic`, `quorum`, `stream`.
    pub queue_type: String,
    /// Whether the queue survives the broker.
    pub durable: bool,
}

impl Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let durable = if self.durable { "durable" } else { "transient" };
        write!(f, "{}, {durable}", self.queue_type)
    }
}

/// Asks as what queues were declared, over one connection to a broker that knows types.
pub struct Inquiry<'a>(&'a Connection);

impl<'a> Inquiry<'a> {
    /// Makes sure that no answer can be a queue: a broker from before RabbitMQ 3.8 ignores the
    /// type that does not exist. It is asked for a queue that nobody else can see, and which goes
    /// with the connection.
    ///
    /// `None` if the broker is such a one, or refuses for another reason.
    ///
    /// # Errors
    ///
    /// What ended the connection.
    pub async fn of(connection: &'a Connection) -> Result<Option<Self>, ConnectionError> {
        let queue = format!("cinder-progress.check.{}", Uuid::new_v4().simple());
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        let refused = ask(connection, &queue, options).await?;
        let knows = refused.is_some_and(|said| said.contains(TYPE));
        Ok(knows.then_some(Self(connection)))
    }

    /// As what `queue` was declared; `None` if the broker does not tell: the queue is missing,
    /// has other arguments than oslo.messaging gives one, or may not be declared by this user.
    ///
    /// # Errors
    ///
    /// What ended the connection.
    pub async fn declared(&self, queue: &str) -> Result<Option<Declared>, ConnectionError> {
        let mut options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        for _ in 0..QUESTIONS {
            let Some(said) = ask(self.0, queue, options).await? else {
                return Ok(None);
            };
            match told(&said) {
                Some(("durable", current)) => options.durable = current == Some("true"),
                Some(("auto_delete", current)) => options.auto_delete = current == Some("true"),
                Some((TYPE, queue_type)) => {
                    return Ok(Some(Declared {
                        queue_type: queue_type.unwrap_or(CLASSIC).to_owned(),
                        durable: options.durable,
                    }));
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }
}

/// Why the broker refuses to declare `queue` of a type that does not exist; `None` if it does
/// not, or does not say.
async fn ask(
    connection: &Connection,
    queue: &str,
    options: QueueDeclareOptions,
) -> Result<Option<String>, ConnectionError> {
    let mut arguments = FieldTable::default();
    arguments.insert(
        TYPE.into(),
        AMQPValue::LongString(LongString::from(NO_TYPE)),
    );
    // A channel for each: the broker closes one on which it refuses something.
    let channel = connection.channel().await?;
    tokio::select! {
        answer = channel.queue_declare(queue.into(), options, arguments) => match answer {
            Err(error) if is_precondition(&error) => Ok(Some(error.to_string())),
            Err(error) if !is_refused(&error) => Err(error.into()),
            _ => Ok(None),
        },
        () = connection.ended() => Err(ConnectionError::Ended),
    }
}

/// What a queue has otherwise, and what it has, if anything: `rabbit_misc` of RabbitMQ 3.10 words
/// it as `inequivalent arg 'durable' for queue '…' in vhost '…': received 'true' but current is
/// 'false'`, or `… but current is none`.
fn told(said: &str) -> Option<(&str, Option<&str>)> {
    let (_, said) = said.split_once("inequivalent arg '")?;
    let (argument, said) = said.split_once('\'')?;
    let (_, current) = said.rsplit_once(" but current is ")?;
    let value = current.split('\'').nth(1);
    Some((argument, value))
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn a_refusal_tells_what_is_otherwise() {
        for (said, expected) in [
            (
                "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'",
                Some(("durable", Some("false"))),
            ),
            (
                "inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'unknown' but current is 'quorum'",
                Some(("x-queue-type", Some("quorum"))),
            ),
            (
                "inequivalent arg 'x-queue-type' for queue 'a but current is 'b'' in vhost '/': received the \
                 value 'unknown' of type 'longstr' but current is none",
                Some(("x-queue-type", None)),
            ),
            (
                "invalid arg 'x-queue-type' for queue 'q' in vhost '/': \"unsupported queue type 'unknown'\"",
                None,
            ),
            ("PRECONDITION_FAILED", None),
        ] {
            assert_eq!(told(said), expected, "{said}");
        }
    }
}
