//! A message as it came from the broker, and what is to become of it.

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::AMQPValue;

/// What the rest of the program may know of a delivery.
///
/// Its `Debug` says sizes only: bodies carry tokens and storage credentials.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// The body, byte for byte.
    pub body: &'a [u8],
    /// The `compression` header, as kombu sets it (`application/x-gzip`, `application/x-bz2`).
    pub compression: Option<&'a str>,
}

impl std::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("bytes", &self.body.len())
            .field("compression", &self.compression)
            .finish()
    }
}

impl<'a> Message<'a> {
    /// The part of a delivery that the rest of the program may know.
    #[must_use]
    pub fn of(delivery: &'a Delivery) -> Self {
        Self {
            body: &delivery.data,
            compression: compression(&delivery.properties),
        }
    }
}

fn compression(properties: &BasicProperties) -> Option<&str> {
    let name = match properties.headers().as_ref()?.inner().get("compression")? {
        AMQPValue::LongString(name) => std::str::from_utf8(name.as_bytes()).ok()?,
        AMQPValue::ShortString(name) => name.as_str(),
        _ => return None,
    };
    // An empty name is kombu's way to say that it is not compressed.
    (!name.is_empty()).then_some(name)
}

/// What becomes of a message in sidecar mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It was ours: whoever was asked has taken what it needs.
    Taken,
    /// It is cinder-volume's.
    HandOver,
}
