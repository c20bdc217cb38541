//! An AMQP client that knows no RPC.

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicRejectOptions,
    ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer};
use serde_json::Value;

use super::broker::SharedBroker;
use super::wait::in_time;

/// A connection to the shared broker.
pub struct Client {
    channel: Channel,
    _connection: Connection,
}

impl Client {
    /// Connects.
    pub async fn connect() -> Self {
        let uri = SharedBroker::amqp_uri();
        let connecting = Connection::connect(&uri, ConnectionProperties::default());
        let connection = in_time("the broker accepts", connecting).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        Self {
            channel,
            _connection: connection,
        }
    }

    /// Declares a queue as oslo.messaging does by default.
    pub async fn declare(&self, queue: &str) {
        self.channel
            .queue_declare(
                queue.into(),
                QueueDeclareOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
    }

    /// Binds a queue to an exchange by its own name.
    pub async fn bind(&self, queue: &str, exchange: &str) {
        self.channel
            .queue_bind(
                queue.into(),
                exchange.into(),
                queue.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
    }

    /// Deletes a queue.
    pub async fn delete(&self, queue: &str) {
        let deleted = self
            .channel
            .queue_delete(queue.into(), QueueDeleteOptions::default());
        deleted.await.unwrap();
    }

    /// How many messages wait on a queue.
    pub async fn depth(&self, queue: &str) -> u32 {
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = self
            .channel
            .queue_declare(queue.into(), passive, FieldTable::default())
            .await;
        queue.unwrap().message_count()
    }

    /// Publishes to a queue that must be there.
    pub async fn publish(&self, queue: &str, properties: BasicProperties, body: &[u8]) {
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let publishing = async {
            let confirm = self
                .channel
                .basic_publish("".into(), queue.into(), mandatory, body, properties)
                .await?;
            confirm.await
        };
        let confirmation = in_time("the broker takes a message", publishing).await;
        assert_eq!(confirmation.unwrap(), Confirmation::Ack(None), "{queue}");
    }

    /// Consumes a queue; what it brings counts as acknowledged.
    pub async fn consume(&self, queue: &str) -> Messages {
        let unacknowledged = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let consumer = self
            .channel
            .basic_consume(
                queue.into(),
                "".into(),
                unacknowledged,
                FieldTable::default(),
            )
            .await;
        Messages(consumer.unwrap())
    }

    /// Looks at the first message of a queue and leaves it there.
    pub async fn peek(&self, queue: &str) -> Delivery {
        let message = self
            .channel
            .basic_get(queue.into(), BasicGetOptions::default())
            .await
            .unwrap()
            .expect("a message waits");
        let back = BasicRejectOptions { requeue: true };
        message.delivery.acker.reject(back).await.unwrap();
        message.delivery
    }
}

/// The messages of a queue.
pub struct Messages(Consumer);

impl Messages {
    /// Waits for the next one.
    pub async fn next(&mut self) -> Delivery {
        let next = in_time("a message comes", self.0.next()).await;
        next.expect("the consumer lives").unwrap()
    }
}

/// Takes the message out of its envelope.
pub fn unwrapped(body: &[u8]) -> Value {
    let envelope: Value = serde_json::from_slice(body).unwrap();
    serde_json::from_str(envelope["oslo.message"].as_str().unwrap()).unwrap()
}

/// Puts a message into an envelope.
pub fn wrapped(message: &Value) -> Vec<u8> {
    let envelope = serde_json::json!({"oslo.version": "2.0", "oslo.message": message.to_string()});
    envelope.to_string().into_bytes()
}
