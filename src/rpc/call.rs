//! The caller's side: the progress call as cinder-api sends it, and what comes back.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::METHOD;
use super::dispatcher::PING;
use super::envelope::{self, EnvelopeError};
use super::failure;

/// The largest reply that is read, in bytes of text: an answer is a few of them, a Python
/// traceback some thousands.
const LIMIT: usize = 16 << 20;

/// What to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressQuery {
    /// The volume's id.
    pub volume_id: String,
    /// The id in its name on the backend, where that is another.
    pub name_id: Option<String>,
    /// In GiB; sent as it is, also where no percentage can be made from it.
    pub size: u64,
    /// `<host>@<backend>#<pool>`.
    pub host: String,
    /// `migrating`, `success`, ...
    pub migration_status: String,
    /// The RPC version asked for.
    pub version: String,
}

/// A call on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The queue for the reply, which has to be there before the call is sent.
    pub reply_queue: String,
    /// What the reply is known by.
    msg_id: String,
}

/// What a reply says.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// The call's result.
    Answer(Value),
    /// The exception that the call ended with.
    Failed(RemoteFailure),
    /// Not done yet; the answer follows.
    StillWorking,
}

/// An exception of the other side, as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFailure {
    /// Its class.
    pub class: String,
    /// The Python module of the class.
    pub module: String,
    /// Its text.
    pub message: String,
    /// The other side's traceback, in pieces of text that end in their line ends.
    pub traceback: Vec<String>,
}

/// Why a reply cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    /// The body is no message.
    #[error("the reply cannot be read: {0}")]
    Envelope(#[from] EnvelopeError),
    /// Its `failure` is not the JSON text of an exception.
    #[error("the reply's failure is not the text of an exception")]
    Failure,
}

impl Call {
    /// A new call, with ids of its own.
    ///
    /// The reply queue is named as oslo.messaging names it (`_get_reply_q` in
    /// `_drivers/amqpdriver.py`): permissions on a broker may go by that.
    #[must_use]
    pub fn new() -> Self {
        Self {
            reply_queue: format!("reply_{}", hex()),
            msg_id: hex(),
        }
    }

    /// The body of the call.
    ///
    /// The volume goes as the versioned object of Ocata, which every later release reads. The
    /// context is that of cinder's own administrator (`get_admin_context` in `cinder/context.py`):
    /// nobody's token is needed. `_timeout` is null as in every call of cinder's: it asks for no
    /// signs of life.
    #[must_use]
    pub fn body(&self, question: &ProgressQuery) -> Vec<u8> {
        let volume = json!({
            "versioned_object.name": "Volume",
            "versioned_object.namespace": "cinder",
            "versioned_object.version": "1.6",
            "versioned_object.data": {
                "id": question.volume_id,
                "_name_id": question.name_id,
                "size": question.size,
                "host": question.host,
                "migration_status": question.migration_status,
            },
        });
        let message = [
            ("method", json!(METHOD)),
            ("args", json!({"volume": volume})),
            ("version", json!(question.version)),
            ("_msg_id", json!(self.msg_id)),
            ("_reply_q", json!(self.reply_queue)),
            ("_timeout", Value::Null),
            ("_unique_id", json!(hex())),
            ("_context_user_id", Value::Null),
            ("_context_project_id", Value::Null),
            ("_context_is_admin", json!(true)),
            ("_context_roles", json!(["admin"])),
            ("_context_read_deleted", json!("no")),
            (
                "_context_request_id",
                json!(format!("req-{}", Uuid::new_v4())),
            ),
        ];
        envelope::encode(&Map::from_iter(
            message.map(|(key, value)| (key.to_owned(), value)),
        ))
    }

    /// The body of a question that every server answers, if only with a refusal, and that needs no look-up
    /// (`PingEndpoint` in `rpc/dispatcher.py`).
    #[must_use]
    pub fn ping(&self) -> Vec<u8> {
        let message = [
            ("method", json!(PING)),
            ("args", json!({})),
            ("_msg_id", json!(self.msg_id)),
            ("_reply_q", json!(self.reply_queue)),
            ("_timeout", Value::Null),
            ("_unique_id", json!(hex())),
        ];
        envelope::encode(&Map::from_iter(
            message.map(|(key, value)| (key.to_owned(), value)),
        ))
    }

    /// Reads what came to the reply queue; `None` if it is not for this call.
    ///
    /// A reply without `ending` is the last one, as in `_drivers/amqpdriver.py`.
    ///
    /// # Errors
    ///
    /// When it is no reply at all.
    pub fn read(
        &self,
        body: &[u8],
        compression: Option<&str>,
    ) -> Result<Option<Reply>, ReplyError> {
        let mut reply = envelope::decode(body, compression, LIMIT)?;
        if reply.get("_msg_id").and_then(Value::as_str) != Some(&self.msg_id) {
            return Ok(None);
        }
        Ok(Some(match reply.remove("failure") {
            None | Some(Value::Null) if reply.get("ending") == Some(&json!(false)) => {
                Reply::StillWorking
            }
            None | Some(Value::Null) => {
                Reply::Answer(reply.remove("result").unwrap_or(Value::Null))
            }
            Some(Value::String(text)) => Reply::Failed(RemoteFailure::parse(&text)?),
            Some(_) => return Err(ReplyError::Failure),
        }))
    }
}

/// The body of a ping that asks for no answer: a server without that method only logs so.
#[must_use]
pub fn ping() -> Vec<u8> {
    let message = [
        ("method", json!(super::dispatcher::PING)),
        ("args", json!({})),
        ("version", json!("1.0")),
        ("_unique_id", json!(hex())),
    ];
    envelope::encode(&Map::from_iter(
        message.map(|(key, value)| (key.to_owned(), value)),
    ))
}

impl Default for Call {
    fn default() -> Self {
        Self::new()
    }
}

impl RemoteFailure {
    /// Reads what [`Failure::to_json`](super::failure::Failure::to_json) and
    /// `serialize_remote_exception` write.
    fn parse(text: &str) -> Result<Self, ReplyError> {
        let failure: Map<String, Value> =
            serde_json::from_str(text).map_err(|_| ReplyError::Failure)?;
        let text = |key: &str| {
            let text = failure.get(key).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let class = text("class");
        if class.is_empty() {
            return Err(ReplyError::Failure);
        }
        let traceback = failure.get("tb").and_then(Value::as_array);
        let lines = traceback.into_iter().flatten().filter_map(Value::as_str);
        Ok(Self {
            class,
            module: text("module"),
            message: text("message"),
            traceback: lines.map(str::to_owned).collect(),
        })
    }

    /// Whether a cinder-progress has sent it; else an oslo.messaging server has.
    #[must_use]
    pub fn is_of_a_daemon(&self) -> bool {
        self.traceback
            .iter()
            .any(|line| line.starts_with(failure::SIGNATURE))
    }

    /// Whether the call was refused by a dispatcher, in either of its ways, and so never begun.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.module == failure::DISPATCHER
            && matches!(self.class.as_str(), "UnsupportedVersion" | "NoSuchMethod")
    }
}

fn hex() -> String {
    Uuid::new_v4().simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::super::dispatcher::{Api, Dispatch, dispatch};
    use super::super::failure::Failure;
    use super::super::reply;
    use super::super::request::{ReplyTo, Request, RequestFields};
    use super::super::version::Version;
    use super::*;
    use crate::rpc::tests::captured;

    fn question() -> ProgressQuery {
        ProgressQuery {
            volume_id: "v".into(),
            name_id: Some("n".into()),
            size: 10,
            host: "node1@lvm#pool".into(),
            migration_status: "migrating".into(),
            version: "3.11".into(),
        }
    }

    fn request(body: &[u8]) -> Map<String, Value> {
        envelope::decode(body, None, LIMIT).unwrap()
    }

    fn reply_to(call: &Call) -> ReplyTo {
        ReplyTo {
            queue: call.reply_queue.clone(),
            msg_id: call.msg_id.clone(),
        }
    }

    fn read(call: &Call, body: &[u8]) -> Reply {
        call.read(body, None).unwrap().unwrap()
    }

    #[test]
    fn the_dispatcher_understands_it() {
        let call = Call::new();
        let body = call.body(&question());
        let text = envelope::open(&body, None, LIMIT).unwrap();
        let request = Request::from_message(RequestFields::read(&text).unwrap()).unwrap();
        assert_eq!(request.reply_to, Some(reply_to(&call)));
        assert_eq!(request.monitor_interval, None);
        let api = Api {
            version: Version::new(3, 11),
            ping_enabled: false,
        };
        let Dispatch::Progress(progress) = dispatch(&request, &api) else {
            panic!("{request:?}");
        };
        assert_eq!(progress.volume.id, "v");
        assert_eq!(progress.volume.name_id.as_deref(), Some("n"));
        assert_eq!(progress.volume.size, 10);
    }

    #[test]
    fn nothing_in_it_is_unknown_to_real_callers() {
        let ours = request(&Call::new().body(&question()));
        let theirs: Vec<_> = captured::all("call-get_migrate_volume_progress")
            .iter()
            .filter(|message| message.release == "latest")
            .map(captured::Captured::decode)
            .collect();
        let data = |message: &Map<String, Value>| {
            message["args"]["volume"]["versioned_object.data"].clone()
        };
        for theirs in theirs {
            for key in ours.keys() {
                assert!(theirs.contains_key(key), "{key}");
            }
            for key in data(&ours).as_object().unwrap().keys() {
                assert!(data(&theirs).get(key).is_some(), "{key}");
            }
        }
    }

    #[test]
    fn the_daemons_own_replies_are_read() {
        let call = Call::new();
        let to = reply_to(&call);
        assert_eq!(
            read(&call, &reply::success(&to, "42")),
            Reply::Answer(json!("42"))
        );
        assert_eq!(read(&call, &reply::heartbeat(&to)), Reply::StillWorking);
        let failure = reply::failure(&to, &Failure::no_such_method(METHOD));
        let Reply::Failed(failure) = read(&call, &failure) else {
            panic!("{failure:?}");
        };
        assert_eq!(failure.class, "NoSuchMethod");
        assert!(failure.is_of_a_daemon() && failure.is_refusal());
    }

    #[test]
    fn the_replies_of_every_release_are_read() {
        for message in captured::all("reply") {
            let id = message.decode()["_msg_id"].as_str().unwrap().to_owned();
            let call = Call {
                msg_id: id,
                ..Call::new()
            };
            let reply = read(&call, &message.body);
            match message.what.as_str() {
                "reply-success" => assert_eq!(reply, Reply::Answer(json!("0"))),
                "reply-null" => assert_eq!(reply, Reply::Answer(Value::Null)),
                "reply-heartbeat" => assert_eq!(reply, Reply::StillWorking),
                _ => {
                    let Reply::Failed(failure) = reply else {
                        panic!("{}: {reply:?}", message.what);
                    };
                    assert!(!failure.is_of_a_daemon());
                    let refused = !message.what.contains("exception");
                    assert_eq!(failure.is_refusal(), refused, "{failure:?}");
                    assert!(!failure.message.is_empty() && !failure.traceback.is_empty());
                }
            }
        }
    }

    #[test]
    fn another_calls_reply_is_passed_over() {
        let body = reply::success(&reply_to(&Call::new()), "42");
        assert_eq!(Call::new().read(&body, None).unwrap(), None);
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        let call = Call::new();
        assert!(call.read(b"{", None).is_err());
        for failure in [json!("no JSON"), json!("{}"), json!("[]"), json!({})] {
            let message = json!({"_msg_id": call.msg_id, "failure": failure, "result": null});
            let body = message.to_string().into_bytes();
            assert!(call.read(&body, None).is_err(), "{message}");
        }
    }
}
