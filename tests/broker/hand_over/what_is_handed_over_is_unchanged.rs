//! A message that the daemon hands over reaches cinder-volume with the same body and the same properties.
//!
//! The test plays cinder-volume, and a caller of a kind that does not exist yet: it sets every property and
//! every type of header that the broker knows.

use lapin::BasicProperties;
use lapin::types::{AMQPValue as Value, DecimalValue, FieldArray, FieldTable};

use crate::support::daemon::Daemon;
use crate::support::raw::Client;
use crate::support::service::Service;

#[tokio::test]
async fn bodies_and_properties_arrive_as_they_were() {
    let service = Service::unique();
    let client = Client::connect().await;
    client.declare(&service.server_queue()).await;
    client.declare(&service.topic()).await;
    let mut handed_over = client.consume(&service.topic()).await;
    let _beside = client.consume(&service.server_queue()).await;
    let _daemon = Daemon::beside(&service).await;
    for properties in [BasicProperties::default(), all_properties()] {
        for body in bodies() {
            client
                .publish(&service.server_queue(), properties.clone(), &body)
                .await;
            let message = handed_over.next().await;
            assert_eq!(message.properties, properties);
            assert!(message.data == body, "a body of {} bytes", body.len());
            assert!(!message.redelivered);
        }
    }
}

fn bodies() -> [Vec<u8>; 5] {
    [
        Vec::new(),
        (0..=255).collect(),
        b"get_migrate_volume_progress is a word here".to_vec(),
        br#"{"method": "get_migrate_volume_progress", "version": "4.0", "args": {}}"#.to_vec(),
        // Larger than a frame.
        vec![0x5a; 1 << 20],
    ]
}

fn all_properties() -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/x-unknown".into())
        .with_content_encoding("binary".into())
        .with_headers(all_headers())
        .with_delivery_mode(1)
        .with_priority(7)
        .with_correlation_id("correlation".into())
        .with_reply_to("reply".into())
        .with_expiration("60000".into())
        .with_message_id("message".into())
        .with_timestamp(1_700_000_000)
        .with_type("type".into())
        // The broker insists on the connection's own.
        .with_user_id("guest".into())
        .with_app_id("app".into())
        .with_cluster_id("cluster".into())
}

fn all_headers() -> FieldTable {
    let decimal = DecimalValue {
        scale: 2,
        value: 314,
    };
    let values = [
        Value::Boolean(true),
        Value::ShortShortInt(i8::MIN),
        Value::ShortShortUInt(u8::MAX),
        Value::ShortInt(i16::MIN),
        Value::ShortUInt(u16::MAX),
        Value::LongInt(i32::MIN),
        Value::LongUInt(u32::MAX),
        Value::LongLongInt(i64::MIN),
        Value::Float(1.5),
        Value::Double(-2.5),
        Value::DecimalValue(decimal),
        Value::LongString("größer".into()),
        Value::Timestamp(1_700_000_000),
        Value::ByteArray(vec![0, 1, 255].into()),
        Value::Void,
    ];
    let mut nested = FieldTable::default();
    let mut array = FieldArray::default();
    for (number, value) in values.iter().enumerate() {
        nested.insert(format!("header-{number}").into(), value.clone());
        array.push(value.clone());
    }
    let mut headers = nested.clone();
    headers.insert("array".into(), Value::FieldArray(array));
    headers.insert("table".into(), Value::FieldTable(nested));
    headers.insert("compression".into(), Value::LongString("unknown".into()));
    headers
}
