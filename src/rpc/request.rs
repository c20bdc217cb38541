//! Requests: what a decoded message asks for, and where the answer goes.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use super::failure::Failure;
use super::kind;
use super::version;

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

/// A call or a cast. The caller's context (`_context_*`) is dropped: it carries the user's
/// token, and nothing here needs it.
#[derive(Clone, PartialEq)]
pub struct Request {
    /// The method asked for.
    pub method: String,
    /// The method's keyword arguments; may hold secrets.
    pub args: Map<String, Value>,
    /// The version asked for, as sent; [`version::DEFAULT`] when none is named.
    pub version: String,
    /// The namespace asked for; absent from everything that cinder sends.
    pub namespace: Option<String>,
    /// Where the answer goes; none for a cast.
    pub reply_to: Option<ReplyTo>,
    /// What duplicates of this message have in common.
    pub unique_id: Option<String>,
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

impl Request {
    /// Reads a decoded message as oslo.messaging's listener and dispatcher do
    /// (`_drivers/amqp.py`, `rpc/dispatcher.py`): absent args are none, an absent version is
    /// 1.0. A version of null is served by nobody; it is kept as `None`, the word that Python
    /// puts into the refusal.
    pub fn from_message(mut message: Map<String, Value>) -> Result<Self, RequestError> {
        let reply_to = reply_to(&message);
        let fail = |problem| RequestError {
            reply_to: reply_to.clone(),
            problem,
        };
        let method = match message.remove("method") {
            Some(Value::String(method)) => method,
            None | Some(Value::Null) => return Err(fail(RequestProblem::MethodMissing)),
            Some(other) => return Err(fail(RequestProblem::MethodNotAString(kind::of(&other)))),
        };
        let version = match message.remove("version") {
            Some(Value::String(version)) => version,
            None => version::DEFAULT.to_owned(),
            Some(Value::Null) => "None".to_owned(),
            Some(other) => return Err(fail(RequestProblem::VersionNotAString(kind::of(&other)))),
        };
        let args = match message.remove("args") {
            Some(Value::Object(args)) => args,
            None => Map::new(),
            Some(other) => return Err(fail(RequestProblem::ArgsNotAnObject(kind::of(&other)))),
        };
        let namespace = match message.remove("namespace") {
            None | Some(Value::Null) => None,
            Some(Value::String(namespace)) => Some(namespace),
            // No endpoint's namespace, as no text but null is; any text will do to say so.
            Some(other) => Some(kind::of(&other).to_owned()),
        };
        Ok(Self {
            method,
            args,
            version,
            namespace,
            unique_id: short_text(&message, "_unique_id"),
            monitor_interval: monitor_interval(message.get("_timeout")),
            reply_to,
        })
    }
}

/// Shows the names that are needed to tell requests apart. Neither an argument nor its name.
impl fmt::Debug for Request {
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
fn reply_to(message: &Map<String, Value>) -> Option<ReplyTo> {
    Some(ReplyTo {
        queue: short_text(message, "_reply_q")?,
        msg_id: short_text(message, "_msg_id")?,
    })
}

fn short_text(message: &Map<String, Value>, key: &str) -> Option<String> {
    let text = message.get(key)?.as_str()?;
    let usable = !text.is_empty() && text.len() <= SHORT_STRING;
    usable.then(|| text.to_owned())
}

/// Half of the caller's `_timeout`, as the dispatcher's watchdog has it: the timeout is read
/// as a whole number of seconds, and what is null, 0, no number or under two seconds asks for
/// nothing.
fn monitor_interval(timeout: Option<&Value>) -> Option<Duration> {
    let seconds = match timeout? {
        // The cast cuts the fraction as Python's int() does, and negatives become 0.
        Value::Number(number) => number.as_f64()? as u64,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    let interval = Duration::from_secs(seconds) / 2;
    (interval >= SHORTEST_INTERVAL).then(|| interval.min(LONGEST_INTERVAL))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(message: Value) -> Result<Request, RequestError> {
        let Value::Object(message) = message else {
            panic!("not an object")
        };
        Request::from_message(message)
    }

    fn interval(timeout: Value) -> Option<Duration> {
        read(json!({"method": "m", "_timeout": timeout}))
            .unwrap()
            .monitor_interval
    }

    #[test]
    fn what_is_absent_has_the_dispatchers_defaults() {
        let request = read(json!({"method": "m"})).unwrap();
        assert_eq!(request.version, "1.0");
        assert_eq!(request.args, Map::new());
        assert_eq!(request.namespace, None);
        assert_eq!(request.reply_to, None);
        assert_eq!(request.unique_id, None);
        assert_eq!(request.monitor_interval, None);
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
            assert_eq!(read(message.clone()).unwrap_err().reply_to, None);
            message["_reply_q"] = json!("reply_1");
            message["_msg_id"] = json!("id");
            let error = read(message).unwrap_err();
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
            assert_eq!(read(message).unwrap().reply_to, None);
        }
    }

    #[test]
    fn a_null_version_is_not_the_default_one() {
        let request = read(json!({"method": "m", "version": null})).unwrap();
        assert_eq!(request.version, "None");
    }

    #[test]
    fn only_null_is_the_null_namespace() {
        let namespace = |value| {
            read(json!({"method": "m", "namespace": value}))
                .unwrap()
                .namespace
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
        let request = read(json!({
            "method": "m",
            "args": {"argument": {"provider_auth": "CHAP user hunter2"}},
            "_context_auth_token": "gAAAA-token",
            "_reply_q": "reply_1",
            "_msg_id": "id",
        }))
        .unwrap();
        let text = format!("{request:?}");
        assert!(text.contains("reply_1"));
        for secret in ["argument", "provider_auth", "hunter2", "gAAAA"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(!format!("{:?}", request.args.keys()).contains("context"));
    }

    proptest! {
        #[test]
        fn any_timeout_gives_a_usable_interval_or_none(timeout in any::<f64>()) {
            if let Some(interval) = monitor_interval(Some(&json!(timeout))) {
                prop_assert!(interval >= SHORTEST_INTERVAL && interval <= LONGEST_INTERVAL);
            }
        }
    }
}
