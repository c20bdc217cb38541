//! Requests: what a decoded message asks for, and where the answer goes.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::de::MapAccess;

use super::envelope::{EnvelopeError, MessageText};
use super::failure::Failure;
use super::json::{Fields, Json, Wrapped, skip};
use super::version;
use super::volume::VolumeFields;

/// The longest text AMQP can carry where a queue's name goes, and longer than any id.
const SHORT_STRING: usize = 255;

/// The shortest interval of heartbeats that oslo.messaging's dispatcher agrees to.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// Longer intervals are cut to this one, so that no timer can overflow; a heartbeat that is
/// early harms nobody.
const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Where the answer of a call goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReplyTo {
    /// The caller's reply queue (`_reply_q`), reached through the default exchange.
    pub queue: String,
    /// What tells the caller which of its calls is answered (`_msg_id`).
    pub msg_id: String,
}

/// What a message says of a request; not yet whether it is one. The caller's context (`_context_*`) is
/// dropped: it carries the user's token, and nothing here needs it.
#[derive(Default)]
pub struct RequestFields<'a> {
    method: Option<Json<'a>>,
    args: Option<Json<'a, MethodArgs<'a>>>,
    version: Option<Json<'a>>,
    namespace: Option<Json<'a>>,
    reply_q: Option<Json<'a>>,
    msg_id: Option<Json<'a>>,
    unique_id: Option<Json<'a>>,
    timeout: Option<Json<'a>>,
}

impl<'a> RequestFields<'a> {
    /// Reads them out of a message.
    ///
    /// # Errors
    ///
    /// When the message is not JSON, or not an object.
    pub fn read(message: &'a MessageText<'_>) -> Result<Self, EnvelopeError> {
        message.read()
    }
}

impl<'a> Fields<'a> for RequestFields<'a> {
    fn take<A: MapAccess<'a>>(&mut self, key: &str, values: &mut A) -> Result<(), A::Error> {
        let field = match key {
            "method" => &mut self.method,
            "version" => &mut self.version,
            "namespace" => &mut self.namespace,
            "_reply_q" => &mut self.reply_q,
            "_msg_id" => &mut self.msg_id,
            "_unique_id" => &mut self.unique_id,
            "_timeout" => &mut self.timeout,
            "args" => {
                self.args = Some(values.next_value()?);
                return Ok(());
            }
            _ => return skip(values),
        };
        *field = Some(values.next_value()?);
        Ok(())
    }
}

/// The keyword arguments of a method, those that are known here. May hold secrets, so there is no `Debug`.
#[derive(Clone, Default, PartialEq)]
pub struct MethodArgs<'a> {
    pub(super) volume: Option<Json<'a, Wrapped<'a, VolumeFields<'a>>>>,
    pub(super) src_path: Option<Json<'a>>,
    pub(super) dest_path: Option<Json<'a>>,
    pub(super) migration_mode: Option<Json<'a>>,
    pub(super) migration_policy: Option<Json<'a>>,
}

impl<'a> Fields<'a> for MethodArgs<'a> {
    fn take<A: MapAccess<'a>>(&mut self, key: &str, values: &mut A) -> Result<(), A::Error> {
        let field = match key {
            "src_path" => &mut self.src_path,
            "dest_path" => &mut self.dest_path,
            "migration_mode" => &mut self.migration_mode,
            "migration_policy" => &mut self.migration_policy,
            "volume" => {
                self.volume = Some(values.next_value()?);
                return Ok(());
            }
            _ => return skip(values),
        };
        *field = Some(values.next_value()?);
        Ok(())
    }
}

/// A call or a cast. Borrows from the message's text.
#[derive(Clone, PartialEq)]
pub struct Request<'a> {
    /// The method asked for.
    pub method: Cow<'a, str>,
    /// The method's keyword arguments; may hold secrets.
    pub args: MethodArgs<'a>,
    /// The version asked for, as sent; [`version::DEFAULT`] when none is named.
    pub version: Cow<'a, str>,
    /// The namespace asked for; absent from everything that cinder sends.
    pub namespace: Option<Cow<'a, str>>,
    /// Where the answer goes; none for a cast.
    pub reply_to: Option<ReplyTo>,
    /// What duplicates of this message have in common.
    pub unique_id: Option<Cow<'a, str>>,
    /// How often the caller wants a sign of life while it waits; none for callers that do not
    /// monitor, to whom none may be sent.
    pub monitor_interval: Option<Duration>,
}

/// A message that is no request. Keeps the way back, so that the caller can be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct RequestError {
    /// Where to tell it; none for a cast.
    pub reply_to: Option<ReplyTo>,
    /// What is wrong.
    pub problem: RequestProblem,
}

/// What can be wrong with a request. Never shows any of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestProblem {
    /// There is no `method`.
    #[error("the request names no method")]
    MethodMissing,
    /// `method` is not text. Python: `hasattr(): attribute name must be string`.
    #[error("the request's method is {0}, not a string")]
    MethodNotAString(&'static str),
    /// `version` is neither text nor null. Python: `'float' object has no attribute 'split'`.
    #[error("the request's version is {0}, not a string")]
    VersionNotAString(&'static str),
    /// `args` is there but no object. Python: `'list' object has no attribute 'items'`.
    #[error("the request's args is {0}, not an object")]
    ArgsNotAnObject(&'static str),
}

impl RequestError {
    /// What to tell the caller.
    pub fn failure(&self) -> Failure {
        Failure::malformed(self.to_string())
    }
}

impl<'a> Request<'a> {
    /// Takes a message as oslo.messaging's listener and dispatcher do
    /// (`_drivers/amqp.py`, `rpc/dispatcher.py`): absent args are none, an absent version is
    /// 1.0. A version of null is served by nobody; it is kept as `None`, the word that Python
    /// puts into the refusal.
    pub fn from_message(message: RequestFields<'a>) -> Result<Self, RequestError> {
        let reply_to = reply_to(&message);
        let fail = |problem| RequestError {
            reply_to: reply_to.clone(),
            problem,
        };
        let method = match message.method {
            Some(Json::Text(method)) => method,
            None | Some(Json::Null) => return Err(fail(RequestProblem::MethodMissing)),
            Some(other) => return Err(fail(RequestProblem::MethodNotAString(other.kind()))),
        };
        let version = match message.version {
            Some(Json::Text(version)) => version,
            None => version::DEFAULT.into(),
            Some(Json::Null) => "None".into(),
            Some(other) => return Err(fail(RequestProblem::VersionNotAString(other.kind()))),
        };
        let args = match message.args {
            Some(Json::Object(args)) => args,
            None => MethodArgs::default(),
            Some(other) => return Err(fail(RequestProblem::ArgsNotAnObject(other.kind()))),
        };
        let namespace = match message.namespace {
            None | Some(Json::Null) => None,
            Some(Json::Text(namespace)) => Some(namespace),
            // No endpoint's namespace, as no text but null is; any text will do to say so.
            Some(other) => Some(other.kind().into()),
        };
        let unique_id = match message.unique_id {
            Some(Json::Text(id)) if is_short(&id) => Some(id),
            _ => None,
        };
        Ok(Self {
            method,
            args,
            version,
            namespace,
            unique_id,
            monitor_interval: monitor_interval(message.timeout.as_ref()),
            reply_to,
        })
    }
}

/// Shows the names that are needed to tell requests apart. Neither an argument nor its name.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("version", &self.version)
            .field("namespace", &self.namespace)
            .field("reply_to", &self.reply_to)
            .field("unique_id", &self.unique_id)
            .field("monitor_interval", &self.monitor_interval)
            .finish_non_exhaustive()
    }
}

/// A call names both a queue and an id; oslo.messaging sends no reply without an id.
fn reply_to(message: &RequestFields<'_>) -> Option<ReplyTo> {
    Some(ReplyTo {
        queue: short_text(message.reply_q.as_ref())?,
        msg_id: short_text(message.msg_id.as_ref())?,
    })
}

fn short_text(value: Option<&Json<'_>>) -> Option<String> {
    let text = value?.as_text()?;
    is_short(text).then(|| text.to_owned())
}

fn is_short(text: &str) -> bool {
    !text.is_empty() && text.len() <= SHORT_STRING
}

/// Half of the caller's `_timeout`, as the dispatcher's watchdog has it: the timeout is read
/// as a whole number of seconds, and what is null, 0, no number or under two seconds asks for
/// nothing.
fn monitor_interval(timeout: Option<&Json<'_>>) -> Option<Duration> {
    let seconds = match timeout? {
        // The cast cuts the fraction as Python's int() does, and negatives become 0.
        Json::Number(number) => number.as_f64()? as u64,
        Json::Text(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    let interval = Duration::from_secs(seconds) / 2;
    (interval >= SHORTEST_INTERVAL).then(|| interval.min(LONGEST_INTERVAL))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::captured::with_request;
    use super::*;

    fn interval(timeout: Value) -> Option<Duration> {
        with_request(&json!({"method": "m", "_timeout": timeout}), |request| {
            request.unwrap().monitor_interval
        })
    }

    #[test]
    fn what_is_absent_has_the_dispatchers_defaults() {
        with_request(&json!({"method": "m"}), |request| {
            let request = request.unwrap();
            assert_eq!(request.version, "1.0");
            assert!(request.args == MethodArgs::default());
            assert_eq!(request.namespace, None);
            assert_eq!(request.reply_to, None);
            assert_eq!(request.unique_id, None);
            assert_eq!(request.monitor_interval, None);
        });
    }

    #[test]
    fn the_caller_of_an_unreadable_request_can_be_told() {
        let reply_to = ReplyTo {
            queue: "reply_1".into(),
            msg_id: "id".into(),
        };
        for (wrong, text) in [
            (json!({}), "the request names no method"),
            (json!({"method": null}), "the request names no method"),
            (
                json!({"method": 5}),
                "the request's method is a number, not a string",
            ),
            (
                json!({"method": "m", "version": 3.11}),
                "the request's version is a number, not a string",
            ),
            (
                json!({"method": "m", "args": null}),
                "the request's args is null, not an object",
            ),
            (
                json!({"method": "m", "args": ["secret"]}),
                "the request's args is a list, not an object",
            ),
        ] {
            let mut message = wrong;
            let refused = |message: &Value| with_request(message, |request| request.unwrap_err());
            assert_eq!(refused(&message).reply_to, None);
            message["_reply_q"] = json!("reply_1");
            message["_msg_id"] = json!("id");
            let error = refused(&message);
            assert_eq!(error.reply_to.as_ref(), Some(&reply_to));
            assert_eq!(error.to_string(), text);
            assert_eq!(error.failure().class, "TypeError");
            assert_eq!(error.failure().message, text);
        }
    }

    #[test]
    fn a_reply_needs_a_queue_and_an_id() {
        let long = "q".repeat(256);
        for message in [
            json!({"method": "m", "_reply_q": "q"}),
            json!({"method": "m", "_msg_id": "id"}),
            json!({"method": "m", "_reply_q": null, "_msg_id": null}),
            json!({"method": "m", "_reply_q": "", "_msg_id": "id"}),
            json!({"method": "m", "_reply_q": "q", "_msg_id": ""}),
            json!({"method": "m", "_reply_q": 5, "_msg_id": "id"}),
            json!({"method": "m", "_reply_q": long, "_msg_id": "id"}),
        ] {
            let reply_to = with_request(&message, |request| request.unwrap().reply_to);
            assert_eq!(reply_to, None);
        }
    }

    #[test]
    fn a_null_version_is_not_the_default_one() {
        with_request(&json!({"method": "m", "version": null}), |request| {
            assert_eq!(request.unwrap().version, "None");
        });
    }

    #[test]
    fn only_null_is_the_null_namespace() {
        let namespace = |value: Value| {
            with_request(&json!({"method": "m", "namespace": value}), |request| {
                request.unwrap().namespace.map(Cow::into_owned)
            })
        };
        assert_eq!(namespace(json!(null)), None);
        for other in [json!(""), json!("lab"), json!(0), json!(false), json!([])] {
            assert!(namespace(other).is_some());
        }
    }

    #[test]
    fn heartbeats_come_every_half_of_the_timeout() {
        assert_eq!(interval(json!(4)), Some(Duration::from_secs(2)));
        assert_eq!(interval(json!(5)), Some(Duration::from_millis(2500)));
        assert_eq!(interval(json!(4.9)), Some(Duration::from_secs(2)));
        assert_eq!(interval(json!("4")), Some(Duration::from_secs(2)));
        assert_eq!(interval(json!(2)), Some(Duration::from_secs(1)));
    }

    #[test]
    fn no_heartbeats_for_callers_that_do_not_monitor() {
        for none in [
            json!(null),
            json!(0),
            json!(1),
            json!(1.9),
            json!(-4),
            json!(true),
            json!("soon"),
            json!(""),
            json!([4]),
            json!({}),
        ] {
            assert_eq!(interval(none.clone()), None, "{none}");
        }
    }

    #[test]
    fn no_timeout_overflows_a_timer() {
        for huge in [json!(u64::MAX), json!(1e300), json!("18446744073709551615")] {
            assert_eq!(interval(huge), Some(LONGEST_INTERVAL));
        }
    }

    #[test]
    fn debug_shows_neither_arguments_nor_context() {
        let message = json!({
            "method": "m",
            "args": {"argument": {"provider_auth": "CHAP user hunter2"}},
            "_context_auth_token": "gAAAA-token",
            "_reply_q": "reply_1",
            "_msg_id": "id",
        });
        let text = with_request(&message, |request| format!("{:?}", request.unwrap()));
        assert!(text.contains("reply_1"));
        for secret in ["argument", "provider_auth", "hunter2", "gAAAA"] {
            assert!(!text.contains(secret), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_timeout_gives_a_usable_interval_or_none(timeout in any::<f64>()) {
            if let Some(interval) = interval(json!(timeout)) {
                prop_assert!(interval >= SHORTEST_INTERVAL && interval <= LONGEST_INTERVAL);
            }
        }
    }
}
