//! The topic's other end: a consumer of T in the place of cinder-volume, as cheap as can be.
//!
//! It does not consume Q, so that whatever is sent there goes to the server that is measured.

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, ConnectionProperties, Consumer};

use crate::support::service::Service;

/// A connection with T and Q declared as oslo.messaging does it by default.
pub struct Topic {
    _connection: Connection,
    channel: Channel,
}

impl Topic {
    /// Connects.
    pub async fn connect(uri: &str) -> Self {
        let connection = Connection::connect(uri, ConnectionProperties::default())
            .await
            .unwrap();
        let channel = connection.create_channel().await.unwrap();
        Self {
            _connection: connection,
            channel,
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

    /// Consumes T.
    pub async fn consume(&self, service: &Service) -> Consumer {
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
