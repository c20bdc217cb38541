//! Exchanges and queues as oslo.messaging would declare them, and passive look-ups.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{Channel, ErrorKind, ExchangeKind};

use crate::config::{Address, Rabbit};

/// The names of one RPC topic on the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicNames {
    /// `control_exchange`.
    pub exchange: String,
    /// T: the topic queue, `cinder-volume.<host>@<backend>`; also its routing key.
    pub topic: String,
    /// Q: the server queue, T + `.` + `<host>`; also its routing key.
    pub server: String,
    /// F: the fanout exchange, T + `_fanout`.
    pub fanout: String,
}

impl TopicNames {
    /// Those of a service's address, on the exchange `control_exchange`.
    #[must_use]
    pub fn of(control_exchange: &str, address: &Address) -> Self {
        Self {
            exchange: control_exchange.to_owned(),
            topic: address.topic.clone(),
            server: address.server_queue.clone(),
            fanout: address.fanout_exchange.clone(),
        }
    }
}

/// How a queue stands, from a passive declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueState {
    /// Messages not yet delivered to a consumer.
    pub ready: u32,
    /// Consumers.
    pub consumers: u32,
}

/// Looks a queue up without declaring it.
///
/// # Errors
///
/// When the queue is missing the broker answers 404 and closes the channel; any other end of
/// the channel or connection.
pub async fn look_up(channel: &Channel, queue: &str) -> Result<QueueState, lapin::Error> {
    let queue = channel
        .queue_declare(
            queue.into(),
            QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            },
            FieldTable::default(),
        )
        .await?;
    Ok(QueueState {
        ready: queue.message_count(),
        consumers: queue.consumer_count(),
    })
}

/// Whether this is the broker's "no such queue" (404).
#[must_use]
pub fn is_missing(error: &lapin::Error) -> bool {
    soft(error) == Some(AMQPSoftError::NOTFOUND)
}

/// Whether this is the broker's "another connection has it" (405).
#[must_use]
pub fn is_locked(error: &lapin::Error) -> bool {
    soft(error) == Some(AMQPSoftError::RESOURCELOCKED)
}

/// Whether this is the broker's "you may not" (403).
#[must_use]
pub fn is_refused(error: &lapin::Error) -> bool {
    soft(error) == Some(AMQPSoftError::ACCESSREFUSED)
}

/// Whether this is the broker's "not allowed" (530): the virtual host is missing, or closed to the user.
#[must_use]
pub fn is_not_allowed(error: &lapin::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ProtocolError(error)
            if *error.kind() == AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)
    )
}

/// Whether the broker has closed only the channel over this.
#[must_use]
pub fn is_soft(error: &lapin::Error) -> bool {
    soft(error).is_some()
}

/// Whether this is the broker's "precondition failed" (406).
#[must_use]
pub fn is_precondition(error: &lapin::Error) -> bool {
    soft(error) == Some(AMQPSoftError::PRECONDITIONFAILED)
}

/// Whether this is the broker's answer (406) to a transaction of which a queue has refused a
/// part.
#[must_use]
pub fn is_partial(error: &lapin::Error) -> bool {
    is_precondition(error) && error.to_string().contains("partial tx completion")
}

fn soft(error: &lapin::Error) -> Option<AMQPSoftError> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft.clone()),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    }
}

/// Declares a topic as an oslo.messaging RPC server does, and returns the name of its private
/// fanout queue.
///
/// Flags and arguments are those of oslo.messaging 18.3 (`_drivers/impl_rabbit.py`,
/// `declare_topic_consumer` and `declare_fanout_consumer`); releases back to Ocata declare the
/// same with their defaults. A queue that exists with other flags is an error (406): another
/// server declared it, and its flags win.
///
/// # Errors
///
/// The broker's.
pub async fn declare(
    channel: &Channel,
    names: &TopicNames,
    rabbit: &Rabbit,
) -> Result<String, lapin::Error> {
    declare_exchange(channel, names, rabbit).await?;
    let durable = is_durable(rabbit);
    for queue in [&names.topic, &names.server] {
        channel
            .queue_declare(
                queue.as_str().into(),
                QueueDeclareOptions {
                    durable,
                    auto_delete: rabbit.amqp_auto_delete,
                    ..QueueDeclareOptions::default()
                },
                topic_arguments(rabbit),
            )
            .await?;
        bind(channel, queue, &names.exchange, queue).await?;
    }
    declare_fanout(channel, names, rabbit).await
}

/// Declares `control_exchange` as an oslo.messaging RPC server does.
///
/// # Errors
///
/// The broker's.
async fn declare_exchange(
    channel: &Channel,
    names: &TopicNames,
    rabbit: &Rabbit,
) -> Result<(), lapin::Error> {
    channel
        .exchange_declare(
            names.exchange.as_str().into(),
            ExchangeKind::Topic,
            ExchangeDeclareOptions {
                durable: is_durable(rabbit),
                auto_delete: rabbit.amqp_auto_delete,
                ..ExchangeDeclareOptions::default()
            },
            FieldTable::default(),
        )
        .await
}

fn is_durable(rabbit: &Rabbit) -> bool {
    rabbit.amqp_durable_queues || rabbit.rabbit_quorum_queue
}

async fn declare_fanout(
    channel: &Channel,
    names: &TopicNames,
    rabbit: &Rabbit,
) -> Result<String, lapin::Error> {
    let durable = rabbit.rabbit_transient_quorum_queue || rabbit.rabbit_stream_fanout;
    channel
        .exchange_declare(
            names.fanout.as_str().into(),
            ExchangeKind::Fanout,
            ExchangeDeclareOptions {
                durable,
                auto_delete: true,
                ..ExchangeDeclareOptions::default()
            },
            FieldTable::default(),
        )
        .await?;
    let queue = if rabbit.rabbit_stream_fanout {
        names.fanout.clone()
    } else {
        format!("{}_{}", names.fanout, uuid::Uuid::new_v4().simple())
    };
    channel
        .queue_declare(
            queue.as_str().into(),
            QueueDeclareOptions {
                durable,
                ..QueueDeclareOptions::default()
            },
            fanout_arguments(rabbit),
        )
        .await?;
    bind(channel, &queue, &names.fanout, &names.topic).await?;
    Ok(queue)
}

pub(super) async fn bind(
    channel: &Channel,
    queue: &str,
    exchange: &str,
    routing_key: &str,
) -> Result<(), lapin::Error> {
    channel
        .queue_bind(
            queue.into(),
            exchange.into(),
            routing_key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
}

fn topic_arguments(rabbit: &Rabbit) -> FieldTable {
    let mut arguments = FieldTable::default();
    if rabbit.rabbit_ha_queues {
        arguments.insert("x-ha-policy".into(), text("all"));
    }
    if rabbit.rabbit_quorum_queue {
        quorum(&mut arguments, rabbit);
    }
    arguments
}

fn fanout_arguments(rabbit: &Rabbit) -> FieldTable {
    let mut arguments = FieldTable::default();
    let ttl = rabbit.rabbit_transient_queues_ttl;
    if rabbit.rabbit_stream_fanout {
        arguments.insert("x-queue-type".into(), text("stream"));
        if !ttl.is_zero() {
            arguments.insert("x-max-age".into(), text(&format!("{}s", ttl.as_secs())));
        }
        return arguments;
    }
    if rabbit.rabbit_ha_queues {
        arguments.insert("x-ha-policy".into(), text("all"));
    }
    if rabbit.rabbit_transient_quorum_queue {
        quorum(&mut arguments, rabbit);
    }
    if !ttl.is_zero() {
        let milliseconds = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        arguments.insert("x-expires".into(), number(milliseconds));
    }
    arguments
}

fn quorum(arguments: &mut FieldTable, rabbit: &Rabbit) {
    arguments.insert("x-queue-type".into(), text("quorum"));
    for (key, value) in [
        ("x-delivery-limit", rabbit.rabbit_quorum_delivery_limit),
        (
            "x-max-in-memory-length",
            rabbit.rabbit_quorum_max_memory_length,
        ),
        (
            "x-max-in-memory-bytes",
            rabbit.rabbit_quorum_max_memory_bytes,
        ),
    ] {
        if value > 0 {
            arguments.insert(ShortString::from(key), number(value));
        }
    }
}

/// The arguments of a consumer, as `enable_cancel_on_failover` asks for them: when a mirrored queue fails
/// over the broker cancels the consumer, which otherwise would not be told.
#[must_use]
pub fn consumer_arguments(rabbit: &Rabbit) -> FieldTable {
    let mut arguments = FieldTable::default();
    if rabbit.enable_cancel_on_failover {
        arguments.insert("x-cancel-on-ha-failover".into(), true.into());
    }
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

/// Numbers travel as py-amqp sends them: 32 bits where they fit. RabbitMQ compares values, not
/// widths, when a queue is declared again.
fn number(value: i64) -> AMQPValue {
    match i32::try_from(value) {
        Ok(value) => AMQPValue::LongInt(value),
        Err(_) => AMQPValue::LongLongInt(value),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lapin::protocol::AMQPError;

    use super::*;
    use crate::config::{Sources, load};

    fn rabbit(options: &[(&str, &str)]) -> Rabbit {
        let group = "oslo_messaging_rabbit".to_owned();
        let option = |&(name, value): &(&str, &str)| (group.clone(), name.into(), value.into());
        let sources = Sources {
            config_files: vec!["/dev/null".into()],
            overrides: options.iter().map(option).collect(),
            ..Sources::default()
        };
        load(&sources).unwrap().rabbit
    }

    fn table<const N: usize>(arguments: [(&'static str, AMQPValue); N]) -> FieldTable {
        let arguments = arguments.map(|(key, value)| (ShortString::from(key), value));
        FieldTable::from(BTreeMap::from(arguments))
    }

    /// By `_get_queue_arguments` of oslo.messaging 18.3.
    #[test]
    fn arguments_are_those_of_oslo_messaging() {
        let half_an_hour = || ("x-expires", AMQPValue::LongInt(1_800_000));
        let policy = || ("x-ha-policy", text("all"));
        let quorum = || ("x-queue-type", text("quorum"));
        let limit = || ("x-delivery-limit", AMQPValue::LongInt(3));
        let bytes = || ("x-max-in-memory-bytes", AMQPValue::LongLongInt(1 << 40));
        let age = || ("x-max-age", text("1800s"));
        let on = |name| (name, "true");
        let ttl = |value| ("rabbit_transient_queues_ttl", value);
        let limits = [
            on("rabbit_quorum_queue"),
            ("rabbit_quorum_delivery_limit", "3"),
            ("rabbit_quorum_max_memory_length", "-1"),
            ("rabbit_quorum_max_memory_bytes", "1099511627776"),
        ];
        let stream = [
            on("rabbit_stream_fanout"),
            on("rabbit_transient_quorum_queue"),
            ("rabbit_qos_prefetch_count", "1"),
        ];
        for (options, topic, fanout) in [
            (&[][..], table([]), table([half_an_hour()])),
            (&[ttl("0")], table([]), table([])),
            (
                &[ttl("31536000")],
                table([]),
                table([("x-expires", AMQPValue::LongLongInt(31_536_000_000))]),
            ),
            (
                &[on("rabbit_ha_queues")],
                table([policy()]),
                table([policy(), half_an_hour()]),
            ),
            (
                &limits,
                table([quorum(), limit(), bytes()]),
                table([half_an_hour()]),
            ),
            (
                &[on("rabbit_transient_quorum_queue")],
                table([]),
                table([quorum(), half_an_hour()]),
            ),
            (
                &stream,
                table([]),
                table([("x-queue-type", text("stream")), age()]),
            ),
        ] {
            let rabbit = rabbit(options);
            assert_eq!(topic_arguments(&rabbit), topic, "{options:?}");
            assert_eq!(fanout_arguments(&rabbit), fanout, "{options:?}");
        }
    }

    #[test]
    fn quorum_queues_are_durable_whatever_the_option_says() {
        for (option, durable) in [
            ("rabbit_ha_queues", false),
            ("amqp_durable_queues", true),
            ("rabbit_quorum_queue", true),
        ] {
            assert_eq!(is_durable(&rabbit(&[(option, "true")])), durable);
        }
    }

    #[test]
    fn errors_are_told_apart_by_their_code() {
        let error = |kind, words: &str| {
            let error = AMQPError::new(kind, words.into());
            lapin::Error::from(ErrorKind::ProtocolError(error))
        };
        let soft = |soft, words| error(AMQPErrorKind::Soft(soft), words);
        let missing = soft(AMQPSoftError::NOTFOUND, "NOT_FOUND - no queue 'Q'");
        let locked = soft(AMQPSoftError::RESOURCELOCKED, "RESOURCE_LOCKED");
        let refused = soft(AMQPSoftError::ACCESSREFUSED, "ACCESS_REFUSED");
        let other_flags = soft(AMQPSoftError::PRECONDITIONFAILED, "inequivalent arg");
        let partial = soft(
            AMQPSoftError::PRECONDITIONFAILED,
            "PRECONDITION_FAILED - partial tx completion",
        );
        let closed = error(
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED),
            "NOT_ALLOWED - vhost not found",
        );
        let all = [missing, locked, refused, other_flags, partial, closed];
        let which = |is: fn(&lapin::Error) -> bool| all.each_ref().map(is);
        assert_eq!(which(is_missing), [true, false, false, false, false, false]);
        assert_eq!(which(is_locked), [false, true, false, false, false, false]);
        assert_eq!(which(is_refused), [false, false, true, false, false, false]);
        assert_eq!(
            which(is_precondition),
            [false, false, false, true, true, false]
        );
        assert_eq!(which(is_partial), [false, false, false, false, true, false]);
        assert_eq!(
            which(is_not_allowed),
            [false, false, false, false, false, true]
        );
        assert_eq!(which(is_soft), [true, true, true, true, true, false]);
    }
}
