//! Replies: the bodies that go to a caller's reply queue.

use serde::Serialize;
use serde_json::Value;
use uuid::{Builder, Uuid};

use super::envelope;
use super::failure::Failure;
use super::request::ReplyTo;

/// The reply to a call that succeeded. A progress is text, to which cinder-api appends a percent sign.
pub fn success(reply_to: &ReplyTo, result: impl Into<Value>) -> Vec<u8> {
    payload(reply_to, result.into(), Value::Null, true)
}

/// The reply to a call that failed.
pub fn failure(reply_to: &ReplyTo, failure: &Failure) -> Vec<u8> {
    payload(reply_to, Value::Null, Value::from(failure.to_json()), true)
}

/// The heartbeat of a call that is not answered yet, for a caller that asked for heartbeats
/// (see [`Request::monitor_interval`](super::request::Request::monitor_interval)). Any other caller would take a
/// heartbeat for the answer, or fail on it.
pub fn heartbeat(reply_to: &ReplyTo) -> Vec<u8> {
    payload(reply_to, Value::Null, Value::Null, false)
}

/// The body that oslo.messaging makes in `AMQPIncomingMessage._send_reply`. All keys are always present, because
/// oslo.messaging 5.17 reads `failure` without a default. `_unique_id` is new in each reply, because a caller drops a
/// reply with an id that it has seen.
fn payload(reply_to: &ReplyTo, result: Value, failure: Value, ending: bool) -> Vec<u8> {
    /// The keys in alphabetical order, which is that of a `serde_json` map.
    #[derive(Serialize)]
    struct Payload<'a> {
        _msg_id: &'a str,
        _unique_id: uuid::fmt::Simple,
        ending: bool,
        failure: Value,
        result: Value,
    }
    envelope::encode(&Payload {
        _msg_id: &reply_to.msg_id,
        _unique_id: unique_id().simple(),
        ending,
        failure,
        result,
    })
}

/// A new id. It need not be unpredictable, so a generator in the process is enough, and the kernel's random bytes are
/// not read for each reply.
fn unique_id() -> Uuid {
    Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid()
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::rpc::tests::captured;

    fn reply_to() -> ReplyTo {
        ReplyTo {
            queue: "reply_1".into(),
            msg_id: "e7d0fe41ce184994b70e9bd9db316142".into(),
        }
    }

    fn decoded(body: &[u8]) -> Map<String, Value> {
        envelope::decode(body, None, 1 << 20).unwrap()
    }

    /// Checks that all is equal except the ids, which are 32 hexadecimal digits in both.
    fn same_as_captured(prefix: &str, ours: &[u8]) {
        for message in captured::all(prefix) {
            let (mut ours, mut theirs) = (decoded(ours), message.decode());
            assert_eq!(ours["_msg_id"], reply_to().msg_id.as_str());
            for key in ["_msg_id", "_unique_id"] {
                let (our_id, their_id) = (ours.remove(key).unwrap(), theirs.remove(key).unwrap());
                for id in [our_id, their_id] {
                    let id = id.as_str().unwrap();
                    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
                }
            }
            assert_eq!(ours, theirs, "{prefix}.{}", message.release);
        }
    }

    #[test]
    fn success_is_as_real_servers_send_it() {
        same_as_captured("reply-success", &success(&reply_to(), "0"));
    }

    #[test]
    fn heartbeats_are_as_real_servers_send_them() {
        same_as_captured("reply-heartbeat", &heartbeat(&reply_to()));
    }

    #[test]
    fn the_envelope_has_the_keys_of_real_ones() {
        let ours: Value = serde_json::from_slice(&heartbeat(&reply_to())).unwrap();
        for message in captured::all("reply") {
            let theirs: Value = serde_json::from_slice(&message.body).unwrap();
            let keys = |value: &Value| Vec::from_iter(value.as_object().unwrap().keys().cloned());
            assert_eq!(keys(&ours), keys(&theirs));
            assert_eq!(ours["oslo.version"], theirs["oslo.version"]);
        }
    }

    #[test]
    fn a_failure_has_the_keys_of_real_ones_and_is_text() {
        let ours = decoded(&failure(&reply_to(), &Failure::internal("x")));
        for message in captured::all("reply-exception") {
            let theirs = message.decode();
            assert!(ours.keys().eq(theirs.keys()));
            assert_eq!(ours["result"], theirs["result"]);
            assert_eq!(ours["ending"], theirs["ending"]);
            let keys = |reply: &Map<String, Value>| {
                let failure: Value =
                    serde_json::from_str(reply["failure"].as_str().unwrap()).unwrap();
                Vec::from_iter(failure.as_object().unwrap().keys().cloned())
            };
            assert_eq!(keys(&ours), keys(&theirs));
        }
    }

    #[test]
    fn each_reply_has_an_id_of_its_own() {
        let id = |body: Vec<u8>| decoded(&body)["_unique_id"].clone();
        assert_ne!(id(heartbeat(&reply_to())), id(heartbeat(&reply_to())));
        assert_ne!(id(success(&reply_to(), "1")), id(success(&reply_to(), "1")));
    }
}
