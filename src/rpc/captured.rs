//! Messages captured from real peers, and what every one of them must read as.

use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::dispatcher::{Api, Dispatch, dispatch};
use super::envelope::{self, EnvelopeError, MessageText};
use super::json::Json;
use super::request::{MethodArgs, Request, RequestError, RequestFields, RequestProblem};
use super::version::Version;
use super::volume::{DriverRecord, Volume};
use super::{METHOD, may_be_progress_call};

pub(super) const LIMIT: usize = 16 << 20;
const API: Api = Api {
    version: Version::new(3, 11),
    ping_enabled: false,
};

/// One captured message.
pub(super) struct Captured {
    /// What it is and which release sent it: `call-gzip`, `latest`.
    pub what: String,
    pub release: String,
    pub body: Vec<u8>,
    pub compression: Option<String>,
    pub content_type: String,
    pub content_encoding: String,
}

impl Captured {
    fn read(path: &Path) -> Self {
        let file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let (what, release) = name.rsplit_once('.').unwrap();
        let body = file["body"].as_str().unwrap();
        let property = |name: &str| file["properties"][name].as_str().unwrap().to_owned();
        Self {
            what: what.to_owned(),
            release: release.to_owned(),
            body: match file["body_encoding"].as_str().unwrap() {
                "utf-8" => body.as_bytes().to_vec(),
                "base64" => BASE64.decode(body).unwrap(),
                other => panic!("{other}"),
            },
            compression: file["properties"]["headers"]["compression"]
                .as_str()
                .map(str::to_owned),
            content_type: property("content_type"),
            content_encoding: property("content_encoding"),
        }
    }

    pub fn open(&self) -> MessageText<'_> {
        envelope::open(&self.body, self.compression.as_deref(), LIMIT).unwrap()
    }

    pub fn decode(&self) -> Map<String, Value> {
        envelope::decode(&self.body, self.compression.as_deref(), LIMIT).unwrap()
    }
}

/// The arguments in a JSON object.
pub(super) fn args(text: &str) -> MethodArgs<'_> {
    match serde_json::from_str(text).unwrap() {
        Json::Object(args) => args,
        other => panic!("{}", Json::<MethodArgs<'_>>::kind(&other)),
    }
}

/// What becomes of a message that is a request, or should be.
pub(super) fn with_request<T>(
    message: &Value,
    then: impl FnOnce(Result<Request<'_>, RequestError>) -> T,
) -> T {
    let body = message.to_string();
    let text = envelope::open(body.as_bytes(), None, LIMIT).unwrap();
    then(Request::from_message(RequestFields::read(&text).unwrap()))
}

/// Every captured message whose name starts with `prefix`; there are some.
pub(super) fn all(prefix: &str) -> Vec<Captured> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire");
    let messages: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .map(|path| Captured::read(&path))
        .filter(|message| message.what.starts_with(prefix))
        .collect();
    assert!(!messages.is_empty(), "no {prefix}");
    messages
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[test]
fn every_file_is_of_a_kind_that_is_tested() {
    for message in all("") {
        let kind = message.what.split('-').next().unwrap();
        assert!(
            ["call", "cast", "notification", "reply"].contains(&kind),
            "{}",
            message.what
        );
        assert_eq!(message.content_type, envelope::CONTENT_TYPE);
        assert_eq!(message.content_encoding, envelope::CONTENT_ENCODING);
        assert!(!message.decode().is_empty());
    }
}

#[test]
fn every_captured_request_reads_as_what_it_is() {
    for message in all("ca") {
        let Captured { what, release, .. } = &message;
        let (method, version, volume) = match what.as_str() {
            "call-get_capabilities" => ("get_capabilities", "3.0", None),
            "call-initialize_connection" => ("initialize_connection", "3.0", Some("020")),
            "cast-create_volume" => ("create_volume", "3.0", Some("010")),
            "cast-delete_volume" => ("delete_volume", "3.0", Some("011")),
            "cast-extend_volume" => ("extend_volume", "3.0", Some("012")),
            "cast-migrate_volume" => ("migrate_volume", "3.5", Some("013")),
            "cast-retype" => ("retype", "3.5", Some("014")),
            "cast-fanout" => ("publish_service_capabilities", "3.11", None),
            "call-bzip2"
            | "call-durable"
            | "call-get_migrate_volume_progress"
            | "call-gzip"
            | "call-monitored"
            | "call-namespace"
            | "call-topic-only"
            | "cast-unwrapped" => (METHOD, "3.11", Some("001")),
            other => panic!("no expectation for {other}"),
        };
        let decoded = message.decode();
        let text = message.open();
        let request = Request::from_message(RequestFields::read(&text).unwrap()).unwrap();
        assert_eq!(request.method, method, "{what}.{release}");
        assert_eq!(request.version, version, "{what}.{release}");
        assert_eq!(
            request.namespace.as_deref(),
            (what == "call-namespace").then_some("lab"),
            "{what}.{release}"
        );
        assert_eq!(
            request.monitor_interval,
            (what == "call-monitored").then_some(Duration::from_secs(2)),
            "{what}.{release}"
        );
        assert!(is_id(request.unique_id.as_deref().unwrap()));
        if what.starts_with("call") {
            let reply_to = request.reply_to.as_ref().unwrap();
            assert_eq!(decoded["_reply_q"], reply_to.queue.as_str());
            assert_eq!(decoded["_msg_id"], reply_to.msg_id.as_str());
            assert!(is_id(reply_to.queue.strip_prefix("reply_").unwrap()));
            assert!(is_id(&reply_to.msg_id));
        } else {
            assert_eq!(request.reply_to, None, "{what}.{release}");
        }

        let read = Volume::from_args(&request.args).ok();
        let expected = volume.map(|end| Volume {
            id: format!("b4d1c0de-0000-4000-8000-000000000{end}"),
            name_id: None,
            name: None,
            size: 10,
            host: Some("node1@lvm#lvm".into()),
            status: Some("migrating".into()),
            migration_status: Some("migrating".into()),
            attach_status: Some("detached".into()),
            has_attachments: false,
            // Where no cinder was installed, the capture's volume is a dictionary with that moment.
            updated_at: read.as_ref().and_then(|read| read.updated_at),
            clustered: false,
            record: DriverRecord::default(),
        });
        assert_eq!(read, expected, "{what}.{release}");

        let ours = method == METHOD && what != "call-namespace";
        assert_eq!(API.serves(&request), ours, "{what}.{release}");
        match dispatch(&request, &API) {
            Dispatch::Progress(call) => {
                assert!(ours, "{what}.{release}");
                assert_eq!(Some(&call.volume), expected.as_ref());
                assert_eq!((&call.src_path, &call.dest_path), (&None, &None));
            }
            Dispatch::Refuse(failure) => {
                assert!(!ours, "{what}.{release}");
                let class = if what == "call-namespace" {
                    "UnsupportedVersion"
                } else {
                    "NoSuchMethod"
                };
                assert_eq!(failure.class, class, "{what}.{release}");
            }
            Dispatch::Ping => panic!("{what}.{release}"),
        }
    }
}

#[test]
fn the_ids_of_one_call_of_each_release_are_read_exactly() {
    for message in all("call-get_migrate_volume_progress") {
        let (queue, msg_id, unique_id) = match message.release.as_str() {
            "ocata" => (
                "reply_d9c6ea87e43a494baf0a13d7df87ec1b",
                "ec7fea8f146141058b8afe7ee0bc21d1",
                "4e395282b7604ec580389b12b4237339",
            ),
            "queens" => (
                "reply_24f9d70f387d4965abe6af7a4eda43ee",
                "5d6829657e614dffa3af417e07c9b719",
                "1b456720a9f64b5191d65290a585c9cd",
            ),
            "train" => (
                "reply_2d555df6e7b1443783b16c228344ca79",
                "2f06567dff484299a6966e670a0a561d",
                "8e5546a2386344e5b5f83467acfb9aa3",
            ),
            "zed" => (
                "reply_1ec39b9ab8d6487fad72dbf56e2bbbf4",
                "a7ae946a80ab466884a2f38c25e5d20b",
                "275302383dab4dcaa79eb73ebf9f0e09",
            ),
            "latest" => (
                "reply_143a11936ed243fea4440dfa5f70608e",
                "ff40677989834f6696dfe3fe133080f1",
                "8e51ef6c488f449eb9d3d9cc51e19f8c",
            ),
            other => panic!("no expectation for {other}"),
        };
        let text = message.open();
        let request = Request::from_message(RequestFields::read(&text).unwrap()).unwrap();
        let reply_to = request.reply_to.unwrap();
        assert_eq!(
            (reply_to.queue.as_str(), reply_to.msg_id.as_str()),
            (queue, msg_id)
        );
        assert_eq!(request.unique_id.as_deref(), Some(unique_id));
    }
}

#[test]
fn a_notification_is_a_message_but_no_request() {
    for message in all("notification") {
        let decoded = message.decode();
        assert_eq!(decoded["event_type"], "volume.migrate.start");
        let text = message.open();
        let error = Request::from_message(RequestFields::read(&text).unwrap()).unwrap_err();
        assert_eq!(error.problem, RequestProblem::MethodMissing);
        assert_eq!(error.reply_to, None);
    }
}

#[test]
fn the_cheap_test_misses_no_call_that_is_not_compressed() {
    for message in all("") {
        let method = message.decode().get("method").cloned();
        let expected = message.compression.is_none() && method == Some(METHOD.into());
        // A refusal names the method, too; such a body is looked at and found to be none.
        if !message.what.starts_with("reply") {
            assert_eq!(
                may_be_progress_call(&message.body),
                expected,
                "{}",
                message.what
            );
        }
    }
}

#[test]
fn no_debug_output_shows_a_captured_secret_or_body() {
    for message in all("ca") {
        let text = message.open();
        let request = Request::from_message(RequestFields::read(&text).unwrap()).unwrap();
        let mut texts = vec![format!("{request:?}")];
        if let Dispatch::Progress(call) = dispatch(&request, &API) {
            texts.push(format!("{call:?}"));
        }
        for text in texts {
            for secret in [
                "lab-token",
                "_context",
                "provider_auth",
                "192.0.2.10",
                "controller",
            ] {
                assert!(!text.contains(secret), "{}: {text}", message.what);
            }
        }
    }
}

/// Everything that happens to a body, whatever it is.
fn read_all_the_way(body: &[u8], compression: Option<&str>) {
    may_be_progress_call(body);
    let _ = envelope::decode(body, compression, LIMIT);
    let Ok(text) = envelope::open(body, compression, LIMIT) else {
        return;
    };
    let Ok(message) = RequestFields::read(&text) else {
        return;
    };
    match Request::from_message(message) {
        Ok(request) => {
            let _ = format!("{request:?} {:?}", dispatch(&request, &API));
            let _ = Volume::from_args(&request.args);
        }
        Err(error) => {
            let _ = format!("{error} {:?}", error.failure());
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // Quarters: serde_json reads other fractions back inexactly, which matters to nobody here.
        any::<i32>().prop_map(|quarters| Value::from(f64::from(quarters) / 4.0)),
        "\\PC{0,20}".prop_map(Value::from),
        Just(Value::from(METHOD)),
        Just(Value::from("3.11")),
        Just(Value::from("2.0")),
        Just(Value::from(
            "{\"method\": 5, \"_reply_q\": \"q\", \"_msg_id\": \"m\"}"
        )),
    ];
    let key = prop_oneof![
        prop::sample::select(vec![
            "oslo.version",
            "oslo.message",
            "method",
            "args",
            "version",
            "namespace",
            "volume",
            "versioned_object.data",
            "id",
            "_name_id",
            "name_id",
            "size",
            "volume_attachment",
            "objects",
            "_msg_id",
            "_reply_q",
            "_unique_id",
            "_timeout",
            "src_path",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,8}",
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..8)
                .prop_map(|map| Value::Object(Map::from_iter(map))),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        body in prop::collection::vec(any::<u8>(), 0..400),
        compression in prop::option::of(prop::sample::select(vec!["gzip", "bzip2", "xz", ""])),
    ) {
        read_all_the_way(&body, compression);
    }

    #[test]
    fn arbitrary_json_never_panics(value in any_json()) {
        read_all_the_way(value.to_string().as_bytes(), None);
        if let Value::Object(message) = value {
            // As a message it comes back unchanged from an envelope.
            let decoded = envelope::decode(&envelope::encode(&message), None, LIMIT).unwrap();
            prop_assert_eq!(decoded, message);
        }
    }

    #[test]
    fn arbitrary_arguments_never_panic(value in any_json()) {
        let call = serde_json::json!({"method": METHOD, "version": "3.11", "args": value});
        read_all_the_way(call.to_string().as_bytes(), None);
        let call = serde_json::json!({
            "method": METHOD, "version": "3.11", "args": {"volume": value},
        });
        read_all_the_way(call.to_string().as_bytes(), None);
    }

    #[test]
    fn damaged_captured_messages_never_panic(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        with in prop::collection::vec(any::<u8>(), 0..4),
        cut in 0usize..4,
    ) {
        let messages = all("");
        let Captured { body, compression, .. } = which.get(&messages);
        let mut body = body.clone();
        let start = at.index(body.len());
        let end = (start + cut).min(body.len());
        body.splice(start..end, with);
        read_all_the_way(&body, compression.as_deref());
        body.truncate(start);
        read_all_the_way(&body, compression.as_deref());
    }
}

#[test]
fn ten_megabytes_are_read_and_more_than_the_limit_is_not() {
    let mut call = all("call-get_migrate_volume_progress").remove(0).decode();
    call["args"]["volume"]["versioned_object.data"]["display_name"] =
        Value::from("x".repeat(10 << 20));
    let body = envelope::encode(&call);
    let text = envelope::open(&body, None, LIMIT).unwrap();
    let request = Request::from_message(RequestFields::read(&text).unwrap()).unwrap();
    assert!(matches!(dispatch(&request, &API), Dispatch::Progress(_)));
    assert!(matches!(
        envelope::open(&body, None, 1 << 20),
        Err(EnvelopeError::TooLarge { limit: 1_048_576 })
    ));
    // Ten megabytes of nothing but nesting, too.
    read_all_the_way("[".repeat(10 << 20).as_bytes(), None);
    read_all_the_way("{\"a\":".repeat(2 << 20).as_bytes(), None);
}

#[test]
fn damaged_input_as_messages() {
    let seeds: Vec<Vec<u8>> = all("").into_iter().map(|message| message.body).collect();
    crate::mutation::try_many("messages", &seeds, |input| {
        read_all_the_way(input, None);
        // What is packed is told by its first bytes, whatever the header says.
        read_all_the_way(input, Some("gzip"));
    });
}

#[test]
fn damaged_input_as_requests() {
    let messages = all("").into_iter();
    let seeds: Vec<Vec<u8>> = messages
        .map(|message| Value::Object(message.decode()).to_string().into_bytes())
        .collect();
    // Without an envelope, which would hide most of what is damaged in it.
    crate::mutation::try_many("requests", &seeds, |input| read_all_the_way(input, None));
}

#[test]
fn damaged_input_as_volumes() {
    let calls = all("call-get_migrate_volume_progress").into_iter();
    let volumes = calls.map(|call| call.decode()["args"]["volume"].to_string().into_bytes());
    let volumes: Vec<Vec<u8>> = volumes.collect();
    crate::mutation::try_many("volumes", &volumes, |input| {
        let args = [&b"{\"volume\":"[..], input, b"}"].concat();
        if let Ok(Json::Object(args)) = serde_json::from_slice::<Json<'_, MethodArgs<'_>>>(&args)
            && let Ok(volume) = Volume::from_args(&args)
        {
            let _ = (volume.attached(), volume.migrating(), volume.bytes());
        }
    });
}
