//! The outermost layer of a message: body bytes to the text of a JSON object and back.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::MapAccess;
use serde_json::{Map, Value};

use super::compression::{self, CompressionError};
use super::json::{Fields, Json, skip};
use super::version::Version;

/// The content type of what `encode` makes, as every captured message has it.
pub const CONTENT_TYPE: &str = "application/json";
/// The content encoding of what `encode` makes, as every captured message has it.
pub const CONTENT_ENCODING: &str = "utf-8";

/// The envelope's keys and version (`oslo_messaging/_drivers/common.py`).
const VERSION_KEY: &str = "oslo.version";
const MESSAGE_KEY: &str = "oslo.message";
const VERSION: &str = "2.0";
const MAJOR: u32 = 2;

/// Why a body is no message. Never carries any of the body: it may hold secrets.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// The body is larger than the limit.
    #[error("the body has more than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The body is compressed and cannot be unpacked.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// The body is not UTF-8, the one encoding that oslo.messaging sends.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// The body or the message in the envelope is not JSON, or JSON nested too deeply.
    #[error("not JSON: {0}")]
    NotJson(serde_json::Error),
    /// It is JSON, but not an object. oslo's driver fails on its first key.
    #[error("the message is {0}, not an object")]
    NotAnObject(&'static str),
    /// An envelope that is not 2.x; in the words of oslo's `UnsupportedRpcEnvelopeVersion`.
    #[error("Specified RPC envelope version, {0}, not supported by this endpoint.")]
    UnsupportedVersion(String),
    /// The envelope's message must be JSON in a string.
    #[error("the envelope's message is {0}, not a string")]
    MessageNotAString(&'static str),
}

/// A message's own JSON text, out of its envelope. Its `Debug` shows none of it.
pub struct MessageText<'a>(Cow<'a, str>);

impl std::fmt::Debug for MessageText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl MessageText<'_> {
    /// Reads the message, which must be an object.
    ///
    /// Nesting is bounded by serde_json (128 levels, an error beyond that).
    pub(super) fn read<'a, T: Fields<'a>>(&'a self) -> Result<T, EnvelopeError> {
        object(&self.0)
    }
}

/// Takes a message out of `body`, whose `compression` header is given, reading at most
/// `limit` bytes of text.
///
/// As oslo's `deserialize_msg`: an object with both `oslo.version` and `oslo.message` is an
/// envelope and its message is JSON in a string; any other object is itself the message
/// (what the sources call version 1.0; notifications still travel so). An envelope in an
/// envelope is not opened. Unlike oslo, which takes 2.0 only, every 2.x is taken: a higher
/// minor promises to be readable by older peers.
pub fn open<'a>(
    body: &'a [u8],
    compression: Option<&str>,
    limit: usize,
) -> Result<MessageText<'a>, EnvelopeError> {
    // Kombu takes an empty header for none.
    match compression.filter(|header| !header.is_empty()) {
        Some(header) => {
            let text = compression::decompress(body, header, limit)?;
            let text = String::from_utf8(text).map_err(|_| EnvelopeError::NotUtf8)?;
            let message = enclosed(&text)?.map(Cow::into_owned);
            Ok(MessageText(Cow::Owned(message.unwrap_or(text))))
        }
        None if body.len() > limit => Err(EnvelopeError::TooLarge { limit }),
        None => {
            let text = str::from_utf8(body).map_err(|_| EnvelopeError::NotUtf8)?;
            Ok(MessageText(enclosed(text)?.unwrap_or(Cow::Borrowed(text))))
        }
    }
}

/// The same, with all that is in the message: for replies, which are small.
pub(super) fn decode(
    body: &[u8],
    compression: Option<&str>,
    limit: usize,
) -> Result<Map<String, Value>, EnvelopeError> {
    open(body, compression, limit)?.read()
}

/// Puts `message` into an envelope 2.0.
pub(super) fn encode(message: &impl Serialize) -> Vec<u8> {
    /// The keys in their order, as a JSON object made of a map has them.
    #[derive(Serialize)]
    struct Envelope {
        #[serde(rename = "oslo.message")]
        message: String,
        #[serde(rename = "oslo.version")]
        version: &'static str,
    }
    // Texts, numbers and nothing else: there is nothing that JSON could not hold.
    let message = serde_json::to_string(message).unwrap_or_default();
    let version = VERSION;
    serde_json::to_vec(&Envelope { message, version }).unwrap_or_default()
}

/// What makes an object an envelope.
#[derive(Default)]
struct EnvelopeFields<'a> {
    version: Option<Json<'a>>,
    message: Option<Json<'a>>,
}

impl<'a> Fields<'a> for EnvelopeFields<'a> {
    fn take<A: MapAccess<'a>>(&mut self, key: &str, values: &mut A) -> Result<(), A::Error> {
        let field = match key {
            VERSION_KEY => &mut self.version,
            MESSAGE_KEY => &mut self.message,
            _ => return skip(values),
        };
        *field = Some(values.next_value()?);
        Ok(())
    }
}

/// The message in an envelope; `None` where `text` is none.
fn enclosed(text: &str) -> Result<Option<Cow<'_, str>>, EnvelopeError> {
    let outer: EnvelopeFields<'_> = object(text)?;
    let (Some(version), Some(message)) = (outer.version, outer.message) else {
        return Ok(None);
    };
    let readable = version
        .as_text()
        .and_then(|version| version.parse::<Version>().ok())
        .is_some_and(|version| version.major == MAJOR);
    if !readable {
        return Err(EnvelopeError::UnsupportedVersion(in_words(&version)));
    }
    match message {
        Json::Text(message) => Ok(Some(message)),
        other => Err(EnvelopeError::MessageNotAString(other.kind())),
    }
}

fn object<'a, T: Fields<'a>>(text: &'a str) -> Result<T, EnvelopeError> {
    match serde_json::from_str(text).map_err(EnvelopeError::NotJson)? {
        Json::Object(object) => Ok(object),
        other => Err(EnvelopeError::NotAnObject(other.kind())),
    }
}

/// A version that is text is shown, but no more of it than a version can need.
fn in_words(version: &Json<'_>) -> String {
    match version.as_text() {
        Some(version) => version
            .chars()
            .take(40)
            .flat_map(char::escape_debug)
            .collect(),
        None => version.kind().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn read(body: &str) -> Result<Map<String, Value>, EnvelopeError> {
        decode(body.as_bytes(), None, LIMIT)
    }

    fn error(body: &str) -> String {
        read(body).unwrap_err().to_string()
    }

    fn enveloped(version: &Value, message: &Value) -> String {
        json!({VERSION_KEY: version, MESSAGE_KEY: message}).to_string()
    }

    #[test]
    fn every_2_x_is_opened() {
        for version in ["2.0", "2.1", "2.0.1", "2.12"] {
            let body = enveloped(&json!(version), &json!("{\"method\": \"m\"}"));
            assert_eq!(read(&body).unwrap()["method"], "m");
        }
    }

    #[test]
    fn other_versions_are_refused_in_oslos_words() {
        for (version, shown) in [
            (json!("3.0"), "3.0"),
            (json!("1.0"), "1.0"),
            (json!("2"), "2"),
            (json!("two\n"), "two\\n"),
            (json!(""), ""),
            (json!(null), "null"),
            (json!(2.0), "a number"),
        ] {
            assert_eq!(
                error(&enveloped(&version, &json!("{}"))),
                format!("Specified RPC envelope version, {shown}, not supported by this endpoint.")
            );
        }
        let long = error(&enveloped(&json!("9".repeat(100_000)), &json!("{}")));
        assert!(long.len() < 200);
    }

    #[test]
    fn without_both_keys_it_is_the_message_itself() {
        for body in [
            "{\"method\": \"m\"}",
            "{\"oslo.version\": \"9.0\"}",
            "{\"oslo.message\": \"{}\"}",
            "{}",
        ] {
            let expected: Value = serde_json::from_str(body).unwrap();
            assert_eq!(Value::Object(read(body).unwrap()), expected);
        }
    }

    #[test]
    fn an_envelope_in_an_envelope_stays_closed() {
        let inner = enveloped(&json!("2.0"), &json!("{}"));
        let opened = read(&enveloped(&json!("2.0"), &json!(inner))).unwrap();
        assert_eq!(opened[VERSION_KEY], "2.0");
    }

    #[test]
    fn what_is_no_message_is_named() {
        assert_eq!(error("[1]"), "the message is a list, not an object");
        assert_eq!(error("null"), "the message is null, not an object");
        assert_eq!(
            error(&enveloped(&json!("2.0"), &json!("[]"))),
            "the message is a list, not an object"
        );
        assert_eq!(
            error(&enveloped(&json!("2.0"), &json!({"method": "m"}))),
            "the envelope's message is an object, not a string"
        );
        assert!(error("").starts_with("not JSON: "));
        assert!(error("{\"a\": NaN}").starts_with("not JSON: "));
        assert!(error(&enveloped(&json!("2.0"), &json!("{"))).starts_with("not JSON: "));
        assert!(matches!(
            decode(b"{\"a\": \"\xff\"}", None, LIMIT),
            Err(EnvelopeError::NotUtf8)
        ));
    }

    #[test]
    fn errors_show_nothing_of_the_body() {
        for body in ["{\"password\": hunter2}", "hunter2", "{\"a\": \"hunter2"] {
            assert!(!error(body).contains("hunter2"));
        }
    }

    #[test]
    fn deep_nesting_is_an_error_outside_and_inside() {
        let deep = format!("{{\"a\": {}{}}}", "[".repeat(200), "]".repeat(200));
        assert!(error(&deep).contains("recursion limit"));
        assert!(error(&enveloped(&json!("2.0"), &json!(deep))).contains("recursion limit"));
    }

    #[test]
    fn an_empty_compression_header_is_none() {
        assert!(decode(b"{}", Some(""), LIMIT).is_ok());
        assert!(matches!(
            decode(b"{}", Some("gzip"), LIMIT),
            Err(EnvelopeError::Compression(_))
        ));
    }

    #[test]
    fn the_limit_itself_is_allowed() {
        assert!(decode(b"{}", None, 2).is_ok());
        assert!(matches!(
            decode(b"{}", None, 1),
            Err(EnvelopeError::TooLarge { limit: 1 })
        ));
    }
}
