//! Why a backend's queue is not consumed for a while.

use std::time::Duration;

use crate::amqp::connection::ConnectionError;
use crate::amqp::connection::backoff::Backoff;
use crate::liveness::Reason;

/// Why we stand aside.
#[derive(Debug, thiserror::Error)]
pub(super) enum StandAside {
    /// A queue is missing.
    #[error("queue {0} is missing: cinder-volume has not declared it yet, or its name differs")]
    Missing(String),
    /// Nobody consumes T.
    #[error("nobody consumes {0}: cinder-volume is down or starting")]
    Unattended(String),
    /// Nobody but us consumes Q.
    #[error("nobody else consumes {0}: cinder-volume is going down or has lost it")]
    Alone(String),
    /// Messages on Q have come back from us too often.
    #[error(
        "messages on {0} came back again and again: it is left to cinder-volume until it has taken them"
    )]
    Repeated(String),
    /// This user may not publish.
    #[error(
        "the user of transport_url may not write to the default exchange (amq.default): neither \
         answers nor operations could be sent; give it the permissions that cinder-volume has"
    )]
    Forbidden,
    /// A consumer of T has left.
    #[error("a consumer of {0} has left: cinder-volume is going down")]
    Leaving(String),
    /// Messages pile up on T.
    #[error("messages pile up on {0}: cinder-volume does not keep up")]
    Backlog(String),
    /// The broker does not answer within this time.
    #[error("the broker takes more than {0:?} to answer")]
    Slow(Duration),
    /// What is in hand cannot be handed over soon.
    #[error("too many messages for {0} at once, for a broker as slow as this")]
    Behind(String),
    /// T vanished in the middle of a hand-over.
    #[error("{0} vanished while messages were handed over to it")]
    Vanished(String),
    /// T refused a message.
    #[error("{0} refuses messages: it is full, or its broker node is failing")]
    Refused(String),
    /// A message with a `CC` header.
    #[error("a message on {0} asks for copies (header CC), which handing over would double")]
    Copies(String),
    /// The broker cancelled our consumer.
    #[error("the broker has cancelled the consumer of {0}")]
    Cancelled(String),
    /// The channel failed.
    #[error("{0}")]
    Channel(#[from] lapin::Error),
    /// The connection did.
    #[error("{0}")]
    Connection(#[from] ConnectionError),
}

impl StandAside {
    /// How it is counted.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Missing(_) => Reason::Missing,
            Self::Unattended(_) => Reason::Unattended,
            Self::Alone(_) => Reason::Alone,
            Self::Repeated(_) => Reason::Repeated,
            Self::Forbidden => Reason::Forbidden,
            Self::Leaving(_) => Reason::Leaving,
            Self::Backlog(_) => Reason::Backlog,
            Self::Slow(_) | Self::Behind(_) => Reason::Slow,
            Self::Vanished(_) => Reason::Vanished,
            Self::Refused(_) => Reason::Refused,
            Self::Copies(_) => Reason::Copies,
            Self::Cancelled(_) => Reason::Cancelled,
            Self::Channel(_) => Reason::Channel,
            Self::Connection(_) => Reason::Connection,
        }
    }
}

/// The waits while a queue is missing. RabbitMQ logs an error each time that it is asked for, and cinder-volume may
/// be away for days: so the longer it is away, the longer the wait, up to half a minute.
pub(super) fn until_there() -> Backoff {
    let step = Duration::from_millis(250);
    Backoff::new(step, step, Duration::from_secs(30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_queue_is_asked_for_ever_more_seldom() {
        let mut waits = until_there();
        assert!(waits.wait() < Duration::from_secs(1));
        let first_hours: Vec<Duration> = (0..500).map(|_| waits.wait()).collect();
        let half_a_minute = Duration::from_secs(15)..Duration::from_secs(45);
        assert!(
            first_hours[200..]
                .iter()
                .all(|wait| half_a_minute.contains(wait))
        );
        waits.reset();
        assert!(waits.wait() < Duration::from_secs(1));
    }
}
