//! A numbered operation, as cinder-api sends it and as cinder_volume.py executes it.

use serde_json::{Value, json};

use super::service::Service;

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

/// The body of a progress call, for a volume that nobody copies.
pub fn progress_call(service: &Service, msg_id: &str, reply_queue: &str) -> Vec<u8> {
    let volume = json!({
        "id": "6f0b2b5e-0000-4000-8000-000000000000",
        "size": 1,
        "host": service.name(),
        "migration_status": "migrating",
    });
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
