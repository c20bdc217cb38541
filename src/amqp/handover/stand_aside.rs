//! Why a backend's queue is not consumed for a while.

use std::time::Duration;

use crate::amqp::connection::ConnectionError;
use crate::amqp::connection::backoff::Backoff;
use crate::liveness::Reason;

/// First, further and longest wait of standing aside. Long enough for cinder-volume to take a
/// message that we cannot handle, short enough that progress calls are answered soon after a
/// restart of cinder-volume.
const ASIDE: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_millis(250),
    Duration::from_secs(2),
];

/// The same while Q is left to cinder-volume because messages have come back too often. Each new try gives them back
/// once more at most.
const LEFT: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(60),
];

/// The wait after the broker was slow: what is handed over soon after would be delayed again.
const SLOW: Duration = Duration::from_secs(3);

/// The wait while the user may not publish: the broker logs each try.
const FORBIDDEN: Duration = Duration::from_secs(10);

/// A serving time after which trouble counts as new.
const GOOD_SPELL: Duration = Duration::from_secs(10);

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

/// How long to stand aside.
#[derive(Debug)]
pub(super) struct Waits {
    usual: Backoff,
    left: Backoff,
    missing: Backoff,
}

impl Default for Waits {
    fn default() -> Self {
        let [first, step, longest] = LEFT;
        Self {
            usual: usual(),
            left: Backoff::new(first, step, longest),
            missing: until_there(),
        }
    }
}

impl Waits {
    /// How long for this. `is_left`: Q is left to cinder-volume until it has taken what came back too often. `holds`:
    /// messages that T has returned are in nobody else's hands.
    pub(super) fn after(&mut self, aside: &StandAside, is_left: bool, holds: bool) -> Duration {
        match aside {
            _ if is_left => self.left.wait(),
            StandAside::Slow(_) => SLOW,
            StandAside::Forbidden => FORBIDDEN,
            // What came back from T is waited for by somebody: it is put on Q as soon as that is there.
            StandAside::Missing(_) if !holds => self.missing.wait(),
            _ => self.usual.wait(),
        }
    }

    /// A spell of serving has ended after this time.
    pub(super) fn after_spell(&mut self, took: Duration) {
        if took >= GOOD_SPELL {
            self.usual.reset();
            self.left.reset();
            self.missing.reset();
        }
    }
}

/// The waits where nothing else is said.
pub(super) fn usual() -> Backoff {
    let [first, step, longest] = ASIDE;
    Backoff::new(first, step, longest)
}

/// The waits while a queue is missing. RabbitMQ logs an error each time that it is asked for, and cinder-volume may
/// be away for days: so the longer it is away, the longer the wait, up to half a minute.
fn until_there() -> Backoff {
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
