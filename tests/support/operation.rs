//! A numbered operation, as cinder-api sends it and as cinder_volume.py executes it.

use serde_json::{Value, json};

use super::service::{Service, unique_name};

/// The body of a cast with this number.
pub fn cast(number: u64) -> Vec<u8> {
    envelope(&json!({
        "method": "create_volume",
        "version": "3.0",
        "args": {"number": number},
        "_context_user_id": "load",
        "_unique_id": format!("operation-{number}"),
    }))
}

/// The body of a call with this number, whose result is [`result`].
pub fn call(number: u64, reply_queue: &str) -> Vec<u8> {
    envelope(&json!({
        "method": "operation",
        "version": "3.0",
        "args": {"number": number},
        "_context_user_id": "load",
        "_msg_id": call_id(number),
        "_reply_q": reply_queue,
        "_unique_id": format!("operation-{number}"),
        "_timeout": null,
    }))
}

/// The `_msg_id` of the call with this number.
pub fn call_id(number: u64) -> String {
    format!("call-{number}")
}

/// What cinder-volume returns for it.
pub fn result(number: u64) -> Value {
    json!({"done": number})
}

/// What cinder-volume replies, and on which queue, if the body is that of a call.
pub fn reply(body: &[u8]) -> Option<(String, Vec<u8>)> {
    let request = opened(body)?;
    let (result, failure) = match request["args"]["number"].as_u64() {
        Some(number) => (result(number), Value::Null),
        None => (Value::Null, json!(r#"{"class": "UnsupportedVersion"}"#)),
    };
    let reply = envelope(&json!({
        "result": result,
        "failure": failure,
        "ending": true,
        "_msg_id": request["_msg_id"],
        "_unique_id": unique_name("reply"),
    }));
    Some((request["_reply_q"].as_str()?.to_owned(), reply))
}

/// The body of a progress call, for a volume that nobody copies.
pub fn progress_call(service: &Service, msg_id: &str, reply_queue: &str) -> Vec<u8> {
    let volume = json!({
        "id": "6f0b2b5e-0000-4000-8000-000000000000",
        "size": 1,
        "host": service.name(),
        "migration_status": "migrating",
    });
    progress_call_about(&volume, msg_id, reply_queue)
}

/// The same for this volume.
pub fn progress_call_about(volume: &Value, msg_id: &str, reply_queue: &str) -> Vec<u8> {
    envelope(&json!({
        "method": "get_migrate_volume_progress",
        "version": "3.11",
        "args": {"volume": volume},
        "_msg_id": msg_id,
        "_reply_q": reply_queue,
        "_unique_id": msg_id,
        "_timeout": null,
    }))
}

/// The number of an operation, if the body is one.
pub fn number_of(body: &[u8]) -> Option<u64> {
    opened(body)?["args"]["number"].as_u64()
}

/// Whether the body is that of a progress call.
pub fn is_progress_call(body: &[u8]) -> bool {
    let method = opened(body).map(|request| request["method"].clone());
    method.is_some_and(|method| method == "get_migrate_volume_progress")
}

/// What is in the envelope of a body.
pub fn opened(body: &[u8]) -> Option<Value> {
    let envelope: Value = serde_json::from_slice(body).ok()?;
    serde_json::from_str(envelope["oslo.message"].as_str()?).ok()
}

fn envelope(message: &Value) -> Vec<u8> {
    json!({"oslo.version": "2.0", "oslo.message": message.to_string()})
        .to_string()
        .into_bytes()
}
