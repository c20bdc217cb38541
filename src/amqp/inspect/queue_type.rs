//! How a queue was declared: its type, and whether it is durable.
//!
//! A passive declare does not tell. So a queue is declared that can never be made, because its type
//! does not exist: the broker refuses (406), and names what the existing queue has otherwise. Where no
//! queue exists, the broker refuses the type.

use std::fmt::{self, Display};

use lapin::Channel;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use uuid::Uuid;

use crate::amqp::connection::{Connection, ConnectionError};
use crate::amqp::topology::{is_precondition, is_soft};

/// The argument that holds the type, since RabbitMQ 3.8.
const TYPE: &str = "x-queue-type";

/// No broker has queues of this type. Short, because a refusal of more than 255 bytes is cut off.
const NO_TYPE: &str = "asks";

/// The only type before RabbitMQ 3.8.
const CLASSIC: &str = "classic";

/// Each refusal tells one thing: durable, auto-delete, a limit or two, the type.
const QUESTIONS: usize = 8;

/// How a queue was declared.
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

/// Asks how queues were declared.
pub enum Inquiry<'a> {
    /// Over a connection to a broker that knows types.
    Types(&'a Connection),
    /// The broker is older than types: all queues are classic.
    BeforeTypes,
    /// The broker does not tell this user.
    Refused,
}

impl<'a> Inquiry<'a> {
    /// Makes sure that no answer can be a queue: a broker from before RabbitMQ 3.8 ignores the
    /// type that does not exist. It is asked for a queue that nobody else can see, and which goes
    /// with the connection.
    ///
    /// # Errors
    ///
    /// What ended the connection.
    pub async fn of(connection: &'a Connection) -> Result<Self, ConnectionError> {
        let queue = format!("cinder-progress.check.{}", Uuid::new_v4().simple());
        let mine = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        match ask(connection, &queue, mine, FieldTable::default()).await? {
            DeclareOutcome::Refused(said) if said.contains(TYPE) => Ok(Self::Types(connection)),
            DeclareOutcome::Refused(_) | DeclareOutcome::Nothing => Ok(Self::Refused),
            DeclareOutcome::Declared(channel) => {
                // Something in between may have made more of it than it was meant to be.
                let gone = channel.queue_delete(queue.into(), QueueDeleteOptions::default());
                gone.await?;
                Ok(Self::BeforeTypes)
            }
        }
    }

    /// Whether `queue` is known to be a classic one.
    ///
    /// # Errors
    ///
    /// What ended the connection.
    pub async fn is_classic(&self, queue: &str) -> Result<bool, ConnectionError> {
        if matches!(self, Self::BeforeTypes) {
            return Ok(true);
        }
        let declared = self.declared(queue).await?;
        Ok(declared.is_some_and(|declared| declared.queue_type == CLASSIC))
    }

    /// How `queue` was declared; `None` if the broker does not tell: the queue is missing, or this user may
    /// not declare it.
    ///
    /// # Errors
    ///
    /// What ended the connection.
    pub async fn declared(&self, queue: &str) -> Result<Option<Declared>, ConnectionError> {
        let Self::Types(connection) = self else {
            return Ok(None);
        };
        let mut options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let mut arguments = FieldTable::default();
        for _ in 0..QUESTIONS {
            let answer = ask(connection, queue, options, arguments.clone()).await?;
            let DeclareOutcome::Refused(said) = answer else {
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
                // Other differences are copied, so that the broker names the next one.
                Some((argument, Some(current))) => {
                    arguments.insert(argument.into(), value(current));
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }
}

/// What the broker says to a declare of a type that does not exist.
enum DeclareOutcome {
    /// In these words (406).
    Refused(String),
    /// It ignored the type, and the queue exists.
    Declared(Channel),
    /// Another error.
    Nothing,
}

async fn ask(
    connection: &Connection,
    queue: &str,
    options: QueueDeclareOptions,
    mut arguments: FieldTable,
) -> Result<DeclareOutcome, ConnectionError> {
    arguments.insert(TYPE.into(), value(NO_TYPE));
    // One channel for each: the broker closes a channel on which it refuses something.
    let channel = connection.channel().await?;
    tokio::select! {
        answer = channel.queue_declare(queue.into(), options, arguments) => match answer {
            Ok(_) => Ok(DeclareOutcome::Declared(channel)),
            Err(error) if is_precondition(&error) => Ok(DeclareOutcome::Refused(error.to_string())),
            Err(error) if is_soft(&error) => Ok(DeclareOutcome::Nothing),
            Err(error) => Err(error.into()),
        },
        () = connection.ended() => Err(ConnectionError::Ended),
    }
}

/// A value that the broker takes as equal to the one it named.
fn value(told: &str) -> AMQPValue {
    told.parse().map_or_else(
        |_| AMQPValue::LongString(LongString::from(told)),
        AMQPValue::LongLongInt,
    )
}

/// The argument that differs, and the queue's own value of it, if any. `rabbit_misc` of RabbitMQ 3.10
/// words it as
///
/// - `inequivalent arg 'durable' for queue '…' in vhost '…': received 'true' but current is 'false'`,
/// - `… received the value 'asks' of type 'longstr' but current is none`, whose end may be cut off,
/// - `… received none but current is the value '60' of type 'signedint'`.
fn told(said: &str) -> Option<(&str, Option<&str>)> {
    let (_, said) = said.split_once("inequivalent arg '")?;
    let (argument, said) = said.split_once('\'')?;
    if said.contains(": received the value '") {
        return Some((argument, None));
    }
    let (_, current) = said.rsplit_once(" but current is ")?;
    let current = current.strip_prefix("the value ").unwrap_or(current);
    let (value, _) = current.strip_prefix('\'')?.split_once('\'')?;
    Some((argument, Some(value)))
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
                "inequivalent arg 'x-expires' for queue 'q' in vhost '/': received none but current is the value '60' of \
                 type 'signedint'",
                Some(("x-expires", Some("60"))),
            ),
            (
                "inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'asks' but current is 'qu...",
                None,
            ),
            (
                "inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received the value 'asks' of ty...",
                Some(("x-queue-type", None)),
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
