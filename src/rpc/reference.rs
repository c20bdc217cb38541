//! The readers of messages, requests and volumes as they would be if all of a body were built first, and that the real
//! ones, which build next to nothing, make the same of every body.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::captured::{LIMIT, all};
use super::compression;
use super::dispatcher::ProgressCall;
use super::envelope::{self, EnvelopeError};
use super::request::{MethodArgs, ReplyTo, Request, RequestFields};
use super::version::Version;
use super::volume::Volume;

/// All that is made of a body, errors in their words.
type Outcome = Result<Result<Content, (Option<ReplyTo>, String)>, String>;

#[derive(Debug, PartialEq)]
struct Content {
    method: String,
    version: String,
    namespace: Option<String>,
    reply_to: Option<ReplyTo>,
    unique_id: Option<String>,
    monitor_interval: Option<Duration>,
    /// The volume with the driver's record, which its `Debug` does not show, or why it is none.
    volume: Result<(Volume, Vec<String>), String>,
    paths: Option<[Option<String>; 3]>,
    migrates: bool,
}

fn real(body: &[u8], compression: Option<&str>) -> Outcome {
    let wrong = |error: EnvelopeError| error.to_string();
    let text = envelope::open(body, compression, LIMIT).map_err(wrong)?;
    let request = Request::from_message(RequestFields::read(&text).map_err(wrong)?);
    Ok(request
        .map(|request| Content {
            migrates: super::migrating(&request).is_some(),
            volume: volume(&request.args),
            paths: ProgressCall::from_args(&request.args)
                .ok()
                .map(|call| [call.src_path, call.dest_path, call.migration_mode]),
            method: request.method.into_owned(),
            version: request.version.into_owned(),
            namespace: request.namespace.map(|namespace| namespace.into_owned()),
            reply_to: request.reply_to,
            unique_id: request.unique_id.map(|id| id.into_owned()),
            monitor_interval: request.monitor_interval,
        })
        .map_err(|error| (error.reply_to.clone(), error.to_string())))
}

fn volume(args: &MethodArgs<'_>) -> Result<(Volume, Vec<String>), String> {
    let volume = Volume::from_args(args).map_err(|error| error.to_string())?;
    let record = volume.record.texts().map(str::to_owned).collect();
    Ok((volume, record))
}

fn reference(body: &[u8], compression: Option<&str>) -> Outcome {
    let mut message = decode(body, compression).map_err(|error| error.to_string())?;
    let short = |key: &str| {
        let text = message.get(key)?.as_str()?;
        (!text.is_empty() && text.len() <= 255).then(|| text.to_owned())
    };
    let reply_to = short("_reply_q").zip(short("_msg_id"));
    let reply_to = reply_to.map(|(queue, msg_id)| ReplyTo { queue, msg_id });
    let unique_id = short("_unique_id");
    let fail = |problem: String| Ok(Err((reply_to.clone(), problem)));
    let method = match message.remove("method") {
        Some(Value::String(method)) => method,
        None | Some(Value::Null) => return fail("the request names no method".to_owned()),
        Some(other) => {
            let kind = kind(&other);
            return fail(format!("the request's method is {kind}, not a string"));
        }
    };
    let version = match message.remove("version") {
        Some(Value::String(version)) => version,
        None => "1.0".to_owned(),
        Some(Value::Null) => "None".to_owned(),
        Some(other) => {
            let kind = kind(&other);
            return fail(format!("the request's version is {kind}, not a string"));
        }
    };
    let args = match message.remove("args") {
        Some(Value::Object(args)) => args,
        None => Map::new(),
        Some(other) => {
            let kind = kind(&other);
            return fail(format!("the request's args is {kind}, not an object"));
        }
    };
    let namespace = match message.remove("namespace") {
        None | Some(Value::Null) => None,
        Some(Value::String(namespace)) => Some(namespace),
        Some(other) => Some(kind(&other).to_owned()),
    };
    let seconds = match message.get("_timeout") {
        Some(Value::Number(number)) => number.as_f64().map(|seconds| seconds as u64),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    let interval = seconds.map(|seconds| Duration::from_secs(seconds) / 2);
    // What the real reader makes of the volume is proved beside it; here, that it meets the same fields: they are
    // written anew without anything else, each once.
    let plain = Value::Object(without_the_rest(&args)).to_string();
    let args = super::captured::args(&plain);
    let path = |value: Option<&super::json::Json<'_>>| {
        let text = value?.as_text()?;
        let usable = !text.is_empty() && text.len() <= 4095 && !text.contains(char::is_control);
        usable.then(|| text.to_owned())
    };
    let volume = volume(&args);
    let never = matches!(&args.migration_policy, Some(policy) if policy.as_text() == Some("never"));
    let migrating = ["migrate_volume", "retype"].contains(&method.as_str());
    Ok(Ok(Content {
        migrates: migrating && namespace.is_none() && !never && volume.is_ok(),
        paths: volume.is_ok().then(|| {
            [&args.src_path, &args.dest_path, &args.migration_mode]
                .map(|value| path(value.as_ref()))
        }),
        method,
        version,
        namespace,
        unique_id,
        monitor_interval: interval
            .filter(|interval| *interval >= Duration::from_secs(1))
            .map(|interval| interval.min(Duration::from_secs(24 * 60 * 60))),
        reply_to,
        volume,
    }))
}

/// The arguments that are known, and of a volume the fields that are.
fn without_the_rest(args: &Map<String, Value>) -> Map<String, Value> {
    const ARGS: [&str; 4] = [
        "src_path",
        "dest_path",
        "migration_mode",
        "migration_policy",
    ];
    const FIELDS: [&str; 15] = [
        "id",
        "_name_id",
        "name_id",
        "name",
        "size",
        "host",
        "status",
        "migration_status",
        "attach_status",
        "updated_at",
        "cluster_name",
        "provider_location",
        "provider_id",
        "admin_metadata",
        "volume_attachment",
    ];
    let some = |map: &Map<String, Value>, keys: &[&str]| {
        let known = map.iter().filter(|(key, _)| keys.contains(&key.as_str()));
        known
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect::<Map<_, _>>()
    };
    let mut known = some(args, &ARGS);
    if let Some(volume) = args.get("volume") {
        let volume = match volume {
            Value::Object(volume) => match volume.get("versioned_object.data") {
                None => Value::Object(some(volume, &FIELDS)),
                Some(Value::Object(data)) => Value::Object(some(data, &FIELDS)),
                Some(other) => other.clone(),
            },
            other => other.clone(),
        };
        known.insert("volume".to_owned(), volume);
    }
    known
}

fn decode(body: &[u8], compression: Option<&str>) -> Result<Map<String, Value>, EnvelopeError> {
    let text = match compression.filter(|header| !header.is_empty()) {
        Some(header) => compression::decompress(body, header, LIMIT)?,
        None if body.len() > LIMIT => return Err(EnvelopeError::TooLarge { limit: LIMIT }),
        None => body.to_vec(),
    };
    let text = String::from_utf8(text).map_err(|_| EnvelopeError::NotUtf8)?;
    let outer = object(&text)?;
    let (Some(version), Some(message)) = (outer.get("oslo.version"), outer.get("oslo.message"))
    else {
        return Ok(outer);
    };
    let readable = version
        .as_str()
        .and_then(|version| version.parse::<Version>().ok())
        .is_some_and(|version| version.major == 2);
    if !readable {
        let shown = version.as_str().map(|version| {
            let shown = version.chars().take(40).flat_map(char::escape_debug);
            shown.collect()
        });
        let shown = shown.unwrap_or_else(|| kind(version).to_owned());
        return Err(EnvelopeError::UnsupportedVersion(shown));
    }
    match message {
        Value::String(message) => object(message),
        other => Err(EnvelopeError::MessageNotAString(kind(other))),
    }
}

fn object(text: &str) -> Result<Map<String, Value>, EnvelopeError> {
    match serde_json::from_str(text).map_err(EnvelopeError::NotJson)? {
        Value::Object(object) => Ok(object),
        other => Err(EnvelopeError::NotAnObject(kind(&other))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Text that is mostly JSON, and as no serializer would write it: keys twice, keys and values escaped for no reason,
/// halves of surrogate pairs, numbers beyond all bounds.
fn any_text() -> impl Strategy<Value = String> {
    const KEYS: [&str; 30] = [
        "method",
        "args",
        "version",
        "namespace",
        "_msg_id",
        "_reply_q",
        "_unique_id",
        "_timeout",
        "_context_auth_token",
        "volume",
        "versioned_object.data",
        "id",
        "_name_id",
        "name_id",
        "name",
        "size",
        "host",
        "status",
        "migration_status",
        "attach_status",
        "updated_at",
        "cluster_name",
        "provider_location",
        "admin_metadata",
        "volume_attachment",
        "objects",
        "src_path",
        "migration_policy",
        "oslo.version",
        "oslo.message",
    ];
    const VALUES: [&str; 26] = [
        "null",
        "true",
        "0",
        "10",
        "-1",
        "10.0",
        "1.5",
        "4",
        "1e300",
        "1e999",
        "18446744073709551616",
        "-0",
        r#""""#,
        r#""3.11""#,
        r#""2.0""#,
        r#""v""#,
        r#""a\nb""#,
        r#""\u0076""#,
        r#""\ud800""#,
        r#""\ud83d\ude00""#,
        r#""migrate_volume""#,
        r#""get_migrate_volume_progress""#,
        r#""2024-01-02T03:04:05Z""#,
        r#""{\"method\": \"m\", \"args\": {\"volume\": {\"id\": \"\\u0076\", \"size\": 1}}}""#,
        "[1, {}]",
        "[[",
    ];
    let key = prop_oneof![
        9 => prop::sample::select(KEYS.to_vec()).prop_map(|key| format!("\"{key}\"")),
        // The first letter escaped.
        1 => prop::sample::select(KEYS.to_vec()).prop_map(|key| {
            let (first, rest) = key.split_at(1);
            format!("\"\\u{:04x}{rest}\"", u32::from(first.as_bytes()[0]))
        }),
    ];
    let leaf = prop_oneof![
        20 => prop::sample::select(VALUES.to_vec()).prop_map(str::to_owned),
        1 => (120_usize..136).prop_map(|depth| "[".repeat(depth) + &"]".repeat(depth)),
    ];
    leaf.prop_recursive(5, 96, 12, move |inner| {
        let objects = prop::collection::vec((key.clone(), inner.clone()), 0..12).prop_map(|fields| {
            let fields: Vec<String> = fields
                .into_iter()
                .map(|(key, value)| format!("{key}: {value}"))
                .collect();
            format!("{{{}}}", fields.join(", "))
        });
        prop_oneof![
            6 => objects,
            1 => prop::collection::vec(inner, 0..4).prop_map(|list| format!("[{}]", list.join(","))),
        ]
    })
}

fn assert_same(body: &[u8], compression: Option<&str>) {
    let (real, reference) = (real(body, compression), reference(body, compression));
    assert_eq!(real, reference, "{}", String::from_utf8_lossy(body));
}

#[test]
fn captured_messages_are_read_the_same() {
    for message in all("") {
        assert_same(&message.body, message.compression.as_deref());
        assert_same(&message.body, None);
    }
}

#[test]
fn damaged_messages_are_read_the_same() {
    let mut seeds: Vec<Vec<u8>> = all("").into_iter().map(|message| message.body).collect();
    let opened = all("ca").into_iter().map(|message| message.decode());
    seeds.extend(opened.map(|message| Value::Object(message).to_string().into_bytes()));
    crate::mutation::try_many("same messages", &seeds, |input| {
        assert_same(input, None);
        assert_same(input, Some("gzip"));
    });
}

proptest! {
    #[test]
    fn any_text_is_read_the_same(text in any_text(), wrapped in any::<bool>()) {
        assert_same(text.as_bytes(), None);
        let call = format!(
            r#"{{"method": "retype", "version": "3.0", "args": {{"volume": {text}, "src_path": "/dev/sda"}}}}"#
        );
        let body = if wrapped {
            serde_json::json!({"oslo.version": "2.0", "oslo.message": call}).to_string()
        } else {
            call
        };
        assert_same(body.as_bytes(), None);
    }
}
