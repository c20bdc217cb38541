//! The options of `[oslo_messaging_rabbit]` about queues, heartbeats and reconnection.

use std::time::Duration;

use super::inputs::Inputs;
use super::options;
use crate::config::ConfigError;
use crate::config::oslo::values;

/// Longest time of an option in seconds: a year. No option needs more, and no sum of such times overflows.
const LONGEST: u64 = 365 * 24 * 3600;

/// Longest pause after a lost connection, in seconds: an hour. A daemon with a longer pause would be missing for calls
/// although its broker is back.
const LONGEST_PAUSE: f64 = 3600.0;

/// `[oslo_messaging_rabbit]`, and the query string of `transport_url`, which overrides it. Fields have the names of the
/// options. Defaults are those of oslo.messaging 18.3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rabbit {
    /// Queues and exchanges survive a restart of the broker. Default false. Quorum queues are durable in any case.
    pub amqp_durable_queues: bool,
    /// The broker deletes queues and exchanges after their last consumer. Default false.
    pub amqp_auto_delete: bool,
    /// Declare with `x-ha-policy: all`. Default false; never together with `rabbit_quorum_queue`.
    pub rabbit_ha_queues: bool,
    /// Shared queues are quorum queues. Default false.
    pub rabbit_quorum_queue: bool,
    /// Reply and fanout queues are quorum queues too. Default false.
    pub rabbit_transient_quorum_queue: bool,
    /// One stream replaces the private fanout queues. Default false.
    pub rabbit_stream_fanout: bool,
    /// `x-delivery-limit` of quorum queues. Default 0: not set.
    pub rabbit_quorum_delivery_limit: i64,
    /// `x-max-in-memory-length` of quorum queues, in messages. Default 0: not set.
    pub rabbit_quorum_max_memory_length: i64,
    /// `x-max-in-memory-bytes` of quorum queues, in bytes. Default 0: not set.
    pub rabbit_quorum_max_memory_bytes: i64,
    /// `x-expires` of unused reply and fanout queues, `x-max-age` of a fanout stream. Default
    /// 1800 s; zero: not set.
    pub rabbit_transient_queues_ttl: Duration,
    /// Unacknowledged messages of one consumer of oslo.messaging. Default 0: no limit. The daemon's consumer of the
    /// server queue has [`Progress::prefetch`](crate::config::Progress::prefetch) instead.
    pub rabbit_qos_prefetch_count: u16,
    /// Consume with `x-cancel-on-ha-failover`. Default false.
    pub enable_cancel_on_failover: bool,
    /// The heartbeat interval that is asked for. A broker that sends nothing for twice as long counts as down. Default
    /// 60 s; zero: no heartbeats. Two heartbeats are sent in that time. `heartbeat_rate` does not change that: that
    /// option is how often oslo.messaging checks its heartbeats.
    pub heartbeat_timeout_threshold: Duration,
    /// How to log in. Default AMQPLAIN.
    pub rabbit_login_method: LoginMethod,
    /// Which host comes next. Default round-robin.
    pub kombu_failover_strategy: FailoverStrategy,
    /// Pause after a connection was lost, before any other is tried. Default 1 s.
    pub kombu_reconnect_delay: Duration,
    /// A random addition to that pause, at most this long. Default 0 s.
    pub kombu_reconnect_splay: Duration,
    /// Pause before the first reconnection. Default 1 s.
    pub rabbit_retry_interval: Duration,
    /// Each further pause is longer by this. Default 2 s.
    pub rabbit_retry_backoff: Duration,
    /// Longest pause. Default 30 s.
    pub rabbit_interval_max: Duration,
    /// How long a reply to a missing queue is retried. Default 60 s.
    pub kombu_missing_consumer_retry_timeout: Duration,
}

/// `rabbit_login_method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginMethod {
    /// `AMQPLAIN`
    AmqPlain,
    /// `PLAIN`
    Plain,
    /// `EXTERNAL`: the client's certificate identifies the account.
    External,
}

/// `kombu_failover_strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailoverStrategy {
    /// `round-robin`: one host after the other.
    RoundRobin,
    /// `shuffle`: a random host.
    Shuffle,
}

const LOGIN_METHODS: &[(&str, LoginMethod)] = &[
    ("AMQPLAIN", LoginMethod::AmqPlain),
    ("PLAIN", LoginMethod::Plain),
    ("EXTERNAL", LoginMethod::External),
];

const FAILOVER_STRATEGIES: &[(&str, FailoverStrategy)] = &[
    ("round-robin", FailoverStrategy::RoundRobin),
    ("shuffle", FailoverStrategy::Shuffle),
];

/// Reads the group. Refuses the combinations that oslo.messaging refuses.
pub(in crate::config) fn read(inputs: &Inputs) -> Result<Rabbit, ConfigError> {
    use options as o;
    let switch = |option| inputs.read(option, values::boolean);
    let time = |option, shortest| inputs.read(option, values::seconds(shortest..=LONGEST));
    let pause = |option| inputs.read(option, values::fractional_seconds(0.0..=LONGEST_PAUSE));
    let limit = |option| inputs.read(option, values::integer(i64::MIN..=i64::MAX));

    let rabbit = Rabbit {
        amqp_durable_queues: switch(&o::DURABLE_QUEUES)?,
        amqp_auto_delete: switch(&o::AUTO_DELETE)?,
        rabbit_ha_queues: switch(&o::HA_QUEUES)?,
        rabbit_quorum_queue: switch(&o::QUORUM_QUEUE)?,
        rabbit_transient_quorum_queue: switch(&o::TRANSIENT_QUORUM_QUEUE)?,
        rabbit_stream_fanout: switch(&o::STREAM_FANOUT)?,
        rabbit_quorum_delivery_limit: limit(&o::QUORUM_DELIVERY_LIMIT)?,
        rabbit_quorum_max_memory_length: limit(&o::QUORUM_MAX_MEMORY_LENGTH)?,
        rabbit_quorum_max_memory_bytes: limit(&o::QUORUM_MAX_MEMORY_BYTES)?,
        rabbit_transient_queues_ttl: time(&o::TRANSIENT_QUEUES_TTL, 0)?,
        rabbit_qos_prefetch_count: inputs
            .read(&o::QOS_PREFETCH_COUNT, values::integer(0..=u16::MAX))?,
        enable_cancel_on_failover: switch(&o::CANCEL_ON_FAILOVER)?,
        // The heartbeat has 16 bits in AMQP's `connection.tune`.
        heartbeat_timeout_threshold: inputs.read(
            &o::HEARTBEAT_TIMEOUT_THRESHOLD,
            values::seconds(0..=u64::from(u16::MAX)),
        )?,
        rabbit_login_method: inputs.read(&o::LOGIN_METHOD, values::choice(LOGIN_METHODS))?,
        kombu_failover_strategy: inputs
            .read(&o::FAILOVER_STRATEGY, values::choice(FAILOVER_STRATEGIES))?,
        kombu_reconnect_delay: pause(&o::RECONNECT_DELAY)?,
        kombu_reconnect_splay: pause(&o::RECONNECT_SPLAY)?,
        rabbit_retry_interval: time(&o::RETRY_INTERVAL, 1)?,
        rabbit_retry_backoff: time(&o::RETRY_BACKOFF, 0)?,
        rabbit_interval_max: time(&o::INTERVAL_MAX, 1)?,
        kombu_missing_consumer_retry_timeout: time(&o::MISSING_CONSUMER_RETRY_TIMEOUT, 0)?,
    };

    if rabbit.rabbit_ha_queues
        && (rabbit.rabbit_quorum_queue || rabbit.rabbit_transient_quorum_queue)
    {
        return Err(inputs.mistake(
            &o::HA_QUEUES,
            "false where quorum queues are on: a queue is one or the other",
        ));
    }
    if rabbit.rabbit_stream_fanout && !rabbit.rabbit_transient_quorum_queue {
        return Err(inputs.mistake(
            &o::STREAM_FANOUT,
            "rabbit_transient_quorum_queue = true beside it",
        ));
    }
    if rabbit.rabbit_stream_fanout && rabbit.rabbit_qos_prefetch_count == 0 {
        return Err(inputs.mistake(
            &o::STREAM_FANOUT,
            "rabbit_qos_prefetch_count above 0 beside it",
        ));
    }
    Ok(rabbit)
}
