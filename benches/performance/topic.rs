//! The topic's other end: a consumer of T in the place of cinder-volume, as cheap as can be.
//!
//! It consumes Q as well, as the daemon expects of a cinder-volume, but is busy there with a message of its own, so that
//! whatever is sent there goes to the server that is measured.

use std::sync::Mutex;

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};

use crate::support::service::Service;

/// A connection with T and Q declared as oslo.messaging does it by default.
pub struct Topic {
    connection: Connection,
    channel: Channel,
    /// Each holds one message of a Q.
    busy: Mutex<Vec<(Channel, Consumer)>>,
}

impl Topic {
    /// Connects.
    pub async fn connect(uri: &str) -> Self {
        let connection = Connection::connect(uri, ConnectionProperties::default())
            .await
            .unwrap();
        let channel = connection.create_channel().await.unwrap();
        Self {
            connection,
            channel,
            busy: Mutex::default(),
        }
    }

    /// Declares T and Q of a service.
    pub async fn declare(&self, service: &Service) {
        for queue in [service.topic(), service.server_queue()] {
            let options = QueueDeclareOptions::default();
            let declared = self
                .channel
                .queue_declare(queue.into(), options, FieldTable::default());
            declared.await.unwrap();
        }
    }

    /// Consumes Q, with its hands full.
    async fn be_busy(&self, queue: String) {
        let channel = self.connection.create_channel().await.unwrap();
        let one = channel.basic_qos(1, BasicQosOptions::default());
        one.await.unwrap();
        let published = channel.basic_publish(
            "".into(),
            queue.as_str().into(),
            BasicPublishOptions::default(),
            b"mine",
            BasicProperties::default(),
        );
        drop(published.await.unwrap());
        let options = BasicConsumeOptions::default();
        let consumer =
            channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        let mut consumer = consumer.await.unwrap();
        drop(consumer.next().await.unwrap().unwrap());
        self.busy.lock().unwrap().push((channel, consumer));
    }

    /// Consumes T, and Q so that nothing comes.
    pub async fn consume(&self, service: &Service) -> Consumer {
        self.be_busy(service.server_queue()).await;
        let options = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        // A consumer whose stream is dropped goes on to consume, and nothing is kept.
        self.channel
            .basic_consume(
                ShortString::from(service.topic()),
                "".into(),
                options,
                FieldTable::default(),
            )
            .await
            .unwrap()
    }

    /// Declares both and lets T be consumed for as long as this lives.
    pub async fn attend(&self, service: &Service) {
        self.declare(service).await;
        let mut consumer = self.consume(service).await;
        tokio::spawn(async move { while consumer.next().await.is_some() {} });
    }
}
