//! Whatever arrives on the server queue, the daemon goes on; where a reply queue can be read, it is told why.
//!
//! Anyone with an account on the broker can publish there, and a body that stopped the daemon would stop it
//! again after each restart.

use std::io::Write;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::support::bench::Alone;
use crate::support::caller::Call;
use crate::support::environment::Release;
use crate::support::raw::{Client, unwrapped, wrapped};
use crate::support::releases::for_every_release;
use crate::support::service::{Service, unique_name};

fn request() -> Value {
    json!({
        "method": "get_migrate_volume_progress", "version": "3.11",
        "args": {"volume": {"id": "v", "size": 1}},
    })
}

fn without(key: &str) -> Value {
    let mut request = request();
    request.as_object_mut().unwrap().remove(key);
    request
}

fn with(key: &str, value: Value) -> Value {
    let mut request = request();
    request[key] = value;
    request
}

fn compressed(header: impl Into<AMQPValue>) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("compression".into(), header.into());
    BasicProperties::default().with_headers(headers)
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn bomb() -> Vec<u8> {
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(&vec![b' '; 100 << 20]).unwrap();
    zlib.finish().unwrap()
}

#[tokio::test]
async fn what_cannot_be_read_is_dropped() {
    let bench = Alone::start(Release::Latest).await;
    let client = Client::connect().await;
    let plain = BasicProperties::default;
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (what, properties, body) in [
        ("empty", plain(), Vec::new()),
        (
            "no JSON",
            plain(),
            b"method: get_migrate_volume_progress".to_vec(),
        ),
        ("no object", plain(), b"[1, 2]".to_vec()),
        ("no UTF-8", plain(), b"{\"method\": \"\xff\xfe\"}".to_vec()),
        ("10 MB of nothing", plain(), vec![0; 10 << 20]),
        ("nested", plain(), nested.clone().into_bytes()),
        (
            "nested in an envelope",
            plain(),
            json!({"oslo.version": "2.0", "oslo.message": nested})
                .to_string()
                .into_bytes(),
        ),
        (
            "envelope 3.0",
            plain(),
            json!({"oslo.version": "3.0", "oslo.message": request().to_string()})
                .to_string()
                .into_bytes(),
        ),
        (
            "not compressed",
            compressed(text("gzip")),
            wrapped(&request()),
        ),
        (
            "unknown compression",
            compressed(text("application/x-lzma")),
            wrapped(&request()),
        ),
        (
            "torn compression",
            compressed(text("bzip2")),
            b"BZh91AY&SY".to_vec(),
        ),
        ("a bomb", compressed(text("application/x-gzip")), bomb()),
        (
            "a number for compression",
            compressed(7),
            b"no JSON".to_vec(),
        ),
    ] {
        let from = bench.daemon.process.stderr.len();
        client
            .publish(&bench.service.server_queue(), properties, &body)
            .await;
        let call = Call::progress(&bench.service, &json!({"id": "v", "size": 1}));
        assert_eq!(bench.caller.call(&call).await.unwrap(), "0", "after {what}");
        bench
            .daemon
            .wait_for_log_from(from, "dropped a message")
            .await;
    }
}

#[tokio::test]
async fn who_can_be_told_is_told() {
    let bench = Alone::start(Release::Latest).await;
    let client = Client::connect().await;
    let reply_queue = unique_name("reply");
    client.declare(&reply_queue).await;
    let mut replies = client.consume(&reply_queue).await;
    for (mut request, class) in [
        (with("method", json!(5)), Some("TypeError")),
        (without("method"), Some("TypeError")),
        (with("version", json!(3.11)), Some("TypeError")),
        (with("version", Value::Null), Some("UnsupportedVersion")),
        (with("args", json!(["v"])), Some("TypeError")),
        (without("args"), Some("InvalidVolume")),
        (
            with("args", json!({"volume": {"id": "../v", "size": 1}})),
            Some("InvalidVolume"),
        ),
        (with("_context_padding", json!("x".repeat(10 << 20))), None),
        (with("_timeout", json!("soon")), None),
        (with("_unique_id", json!({})), None),
    ] {
        request["_msg_id"] = json!("the call");
        request["_reply_q"] = json!(reply_queue);
        let properties = BasicProperties::default();
        client
            .publish(
                &bench.service.server_queue(),
                properties,
                &wrapped(&request),
            )
            .await;
        let reply = unwrapped(&replies.next().await.data);
        assert_eq!(reply["_msg_id"], "the call");
        assert_eq!(reply["ending"], true);
        match class {
            Some(class) => {
                let failure: Value =
                    serde_json::from_str(reply["failure"].as_str().unwrap()).unwrap();
                assert_eq!(failure["class"], class);
            }
            None => assert_eq!(
                (&reply["result"], &reply["failure"]),
                (&json!("0"), &Value::Null)
            ),
        }
    }
}

for_every_release!(a_real_caller_understands_what_it_is_told);

/// The test takes a real call in the place of its server, damages it and passes it on.
async fn a_real_caller_understands_what_it_is_told(release: Release) {
    let bench = Alone::start(release).await;
    let client = Client::connect().await;
    let elsewhere = Service::unique();
    let queue = elsewhere.server_queue();
    client.declare(&queue).await;
    client.bind(&queue, "openstack").await;
    let mut calls = client.consume(&queue).await;
    for (key, value) in [("method", json!(5)), ("args", json!([]))] {
        let damage = async {
            let call = calls.next().await;
            let mut request = unwrapped(&call.data);
            request[key] = value;
            client
                .publish(
                    &bench.service.server_queue(),
                    call.properties,
                    &wrapped(&request),
                )
                .await;
        };
        let call = Call::progress(&elsewhere, &json!({"id": "v", "size": 1}));
        let (outcome, ()) = tokio::join!(bench.caller.call(&call), damage);
        let exception = outcome.unwrap_err();
        assert_eq!(exception.thrown(), "TypeError", "{exception:?}");
        assert!(
            exception
                .message
                .contains(&format!("the request's {key} is a ")),
            "{exception:?}"
        );
    }
}
