//! The replies that a caller gets, on one reply queue after another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Connection, Consumer, ExchangeKind};
use serde_json::Value;

use super::operation;
use super::service::unique_name;

/// By `_msg_id`. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Answers(Arc<Mutex<BTreeMap<String, Answer>>>);

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// With this result.
    Result(Value),
    /// With an exception.
    Failure,
}

impl Answers {
    /// Takes the replies to a new queue, for as long as the connection lives. Returns its name.
    pub async fn listen(&self, connection: &Connection) -> Option<String> {
        let queue = unique_name("reply");
        let consumer = consume(connection, &queue).await.ok()?;
        tokio::spawn(self.clone().take(consumer));
        Some(queue)
    }

    /// The answer to a call, if there is one yet.
    pub fn to(&self, msg_id: &str) -> Option<Answer> {
        self.0.lock().unwrap().get(msg_id).cloned()
    }

    async fn take(self, mut consumer: Consumer) {
        while let Some(Ok(delivery)) = consumer.next().await {
            let reply = operation::opened(&delivery.data).expect("replies are in envelopes");
            let msg_id = reply["_msg_id"].as_str().expect("replies name their call");
            let answer = if reply["failure"].is_null() {
                Answer::Result(reply["result"].clone())
            } else {
                Answer::Failure
            };
            self.0.lock().unwrap().insert(msg_id.to_owned(), answer);
        }
    }
}

async fn consume(connection: &Connection, queue: &str) -> lapin::Result<Consumer> {
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.into(), options, FieldTable::default())
        .await?;
    // A server of oslo.messaging 5.17 replies to an exchange of the queue's name.
    let options = ExchangeDeclareOptions {
        auto_delete: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(
            queue.into(),
            ExchangeKind::Direct,
            options,
            FieldTable::default(),
        )
        .await?;
    channel
        .queue_bind(
            queue.into(),
            queue.into(),
            queue.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    channel
        .basic_consume(queue.into(), "".into(), options, FieldTable::default())
        .await
}
