//! The caller's side: a reply queue of its own, one message out, and what comes back.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Consumer, ExchangeKind};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, ConnectionError};
use super::topology::is_missing;

/// A reply queue, and the channel on which questions go out.
#[derive(Debug)]
pub struct Caller {
    line: Line,
    replies: Consumer,
}

/// The way out.
#[derive(Debug)]
struct Line {
    /// The end of the connection.
    ended: CancellationToken,
    channel: Channel,
    /// Who says that it asks.
    name: Option<String>,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// It is on a queue.
    Taken,
    /// No queue is bound for it.
    NoQueue,
    /// There is no such exchange.
    NoExchange,
    /// The queue did not take it, as one that is full.
    Refused,
}

impl Caller {
    /// Opens the reply queue.
    ///
    /// oslo.messaging's own reply queue is neither exclusive nor deleted with its consumer: it has to survive
    /// a reconnection, and expires after half an hour. This queue is used once and must leave nothing
    /// behind, so it is exclusive and goes with the connection. No other program declares a queue of this
    /// name, so no flag can clash, and everybody may publish to an exclusive queue. Servers up to
    /// oslo.messaging 5.x reply to an exchange of the queue's name, which their callers declare so
    /// (`declare_direct_consumer` in `_drivers/impl_rabbit.py` of 5.17); that exchange goes with the queue.
    ///
    /// # Errors
    ///
    /// The broker's, such as the want of a permission.
    pub async fn open(connection: &Connection, queue: &str) -> Result<Self, ConnectionError> {
        Self::open_on(connection.channel().await?, connection.end(), queue).await
    }

    /// The same on a channel of its own of the connection that ends with `ended`.
    ///
    /// # Errors
    ///
    /// Those of [`Caller::open`].
    pub async fn open_on(
        channel: Channel,
        ended: CancellationToken,
        queue: &str,
    ) -> Result<Self, ConnectionError> {
        let opening = async {
            channel
                .confirm_select(ConfirmSelectOptions::default())
                .await?;
            let only_ours = QueueDeclareOptions {
                exclusive: true,
                auto_delete: true,
                ..QueueDeclareOptions::default()
            };
            channel
                .queue_declare(queue.into(), only_ours, FieldTable::default())
                .await?;
            let of_ocata = ExchangeDeclareOptions {
                auto_delete: true,
                ..ExchangeDeclareOptions::default()
            };
            let direct = ExchangeKind::Direct;
            channel
                .exchange_declare(queue.into(), direct, of_ocata, FieldTable::default())
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
            let taken_when_sent = BasicConsumeOptions {
                no_ack: true,
                ..BasicConsumeOptions::default()
            };
            channel
                .basic_consume(
                    queue.into(),
                    "".into(),
                    taken_when_sent,
                    FieldTable::default(),
                )
                .await
        };
        let replies = while_open(&ended, opening).await?;
        let line = Line {
            ended,
            channel,
            name: None,
        };
        Ok(Self { line, replies })
    }

    /// Says who asks, in the property `app_id`. cinder's callers do not set it.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.line.name = Some(name.to_owned());
        self
    }

    /// Sends `body`. `patience` is how long the message is of use.
    ///
    /// # Errors
    ///
    /// What ended the connection.
    pub async fn send(
        &self,
        exchange: &str,
        routing_key: &str,
        body: &[u8],
        patience: Duration,
    ) -> Result<Sent, ConnectionError> {
        self.line.send(exchange, routing_key, body, patience).await
    }

    /// Sends `body` to all of these exchanges and routing keys, and tells whether anybody answers: within `patience`
    /// from when the broker has taken them all. An answer may come before that.
    ///
    /// # Errors
    ///
    /// What ended the connection.
    pub async fn is_answered(
        &mut self,
        to: &[(&str, &str)],
        body: &[u8],
        patience: Duration,
    ) -> Result<bool, ConnectionError> {
        let Self { line, replies } = self;
        let sending = to
            .iter()
            .map(|(exchange, routing_key)| line.send(exchange, routing_key, body, patience));
        let mut answer = pin!(next(line, replies));
        let sent = tokio::select! {
            answer = &mut answer => return answer.map(|_| true),
            sent = try_join_all(sending) => sent?,
        };
        if !sent.contains(&Sent::Taken) {
            return Ok(false);
        }
        match tokio::time::timeout(patience, answer).await {
            Ok(answer) => answer.map(|_| true),
            Err(_) => Ok(false),
        }
    }

    /// Waits for what comes to the reply queue.
    ///
    /// # Errors
    ///
    /// What ended the connection or the queue.
    pub async fn next(&mut self) -> Result<Delivery, ConnectionError> {
        next(&self.line, &mut self.replies).await
    }
}

async fn next(line: &Line, replies: &mut Consumer) -> Result<Delivery, ConnectionError> {
    let next = async { replies.next().await.transpose() };
    while_open(&line.ended, next)
        .await?
        .ok_or(ConnectionError::Cancelled)
}

impl Line {
    /// Sends `body` as callers of every release do, persistent and with an expiration. It is mandatory
    /// as well, which theirs is not: they learn of a missing queue only by a time-out.
    /// `patience` is how long the message is of use.
    ///
    /// # Errors
    ///
    /// What ended the connection.
    async fn send(
        &self,
        exchange: &str,
        routing_key: &str,
        body: &[u8],
        patience: Duration,
    ) -> Result<Sent, ConnectionError> {
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let mut properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_headers(FieldTable::default())
            .with_delivery_mode(2)
            .with_priority(0)
            .with_expiration(patience.as_millis().to_string().into());
        if let Some(name) = &self.name {
            properties = properties.with_app_id(name.as_str().into());
        }
        let sending = async {
            let (exchange, routing_key) = (exchange.into(), routing_key.into());
            self.channel
                .basic_publish(exchange, routing_key, mandatory, body, properties)
                .await?
                .await
        };
        // Of several under way a return may be told with another one: as many are returned all the same.
        let confirmed = while_open(&self.ended, sending).await;
        match confirmed {
            Ok(Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_))) => Ok(Sent::NoQueue),
            Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => Ok(Sent::Taken),
            Ok(Confirmation::Nack(None)) => Ok(Sent::Refused),
            Err(ConnectionError::Amqp(error)) if is_missing(&error) => Ok(Sent::NoExchange),
            Err(error) => Err(error),
        }
    }
}

/// Runs `work` on a connection until the connection ends: lapin does not tell every waiting answer of
/// that end.
async fn while_open<T>(
    ended: &CancellationToken,
    work: impl Future<Output = Result<T, lapin::Error>>,
) -> Result<T, ConnectionError> {
    tokio::select! {
        biased;
        outcome = work => Ok(outcome?),
        () = ended.cancelled() => Err(ConnectionError::Ended),
    }
}
