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

#[cfg(test)]
mod tests {
    use lapin::types::{FieldTable, LongString, ShortString};

    use super::*;

    fn header(value: AMQPValue) -> Option<String> {
        let mut headers = FieldTable::default();
        headers.insert("compression".into(), value);
        let properties = BasicProperties::default().with_headers(headers);
        compression(&properties).map(str::to_owned)
    }

    #[test]
    fn the_compression_is_the_name_in_the_header_if_there_is_one() {
        let gzip = "application/x-gzip";
        let long = |bytes: &[u8]| AMQPValue::LongString(LongString::from(bytes.to_vec()));
        assert_eq!(header(long(gzip.as_bytes())).as_deref(), Some(gzip));
        let short = AMQPValue::ShortString(ShortString::from(gzip));
        assert_eq!(header(short).as_deref(), Some(gzip));
        for none in [long(b""), long(b"\xff"), AMQPValue::Void, true.into()] {
            assert_eq!(header(none.clone()), None, "{none:?}");
        }
        assert_eq!(compression(&BasicProperties::default()), None);
    }

    #[test]
    fn debug_shows_no_body() {
        let message = Message {
            body: b"HUSH",
            compression: None,
        };
        let shown = format!("{message:?}");
        assert_eq!(shown, "Message { bytes: 4, compression: None }");
    }
}
