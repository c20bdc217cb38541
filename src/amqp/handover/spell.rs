//! One spell of serving: its channels, its consumers, what is in hand, and how that is given back.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};

use super::probe;
use super::ready::Lookout;
use super::transaction::Judged;
use super::unsettled::Unsettled;
use crate::amqp::connection::{Connection, ConnectionError};
use crate::amqp::message::Disposition;
use crate::amqp::topology::TopicNames;

/// How long it may take to give back what is in hand in the way that leaves no trace; after that
/// the channel is closed over it.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// How Q is consumed.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// `x-priority` of our consumer; cinder-volume's is 0.
    pub priority: i32,
    /// Messages in hand at most. A daemon that hangs can hold up no more than these.
    pub prefetch: u16,
    /// Further arguments of our consumer.
    pub arguments: FieldTable,
}

/// One spell of serving.
pub(super) struct Spell {
    /// Consumes Q and publishes to T, in transactions.
    pub(super) work: Channel,
    pub(super) lookout: Lookout,
    pub(super) consumers: Vec<Consumer>,
    /// Off Q and not settled yet, in order.
    pub(super) in_hand: Vec<Judged>,
    /// How many messages the next transaction may hand over.
    pub(super) window: usize,
    /// Each transaction hands one message over.
    pub(super) one_by_one: bool,
}

impl Spell {
    /// Opens its channels.
    ///
    /// # Errors
    ///
    /// What ended the connection.
    pub(super) async fn open(
        connection: &Connection,
        names: &Arc<TopicNames>,
        unsettled: &Unsettled,
    ) -> Result<Self, ConnectionError> {
        Ok(Self {
            work: connection.channel().await?,
            lookout: Lookout::open(connection, Arc::clone(names), unsettled.clone()).await?,
            consumers: Vec::new(),
            in_hand: Vec::new(),
            window: 1,
            one_by_one: false,
        })
    }

    /// Consumes Q with no more than `prefetch` messages in hand, those of earlier consumers aside.
    pub(super) async fn consume(
        &mut self,
        names: &TopicNames,
        options: &ConsumerOptions,
        prefetch: u16,
    ) -> Result<(), lapin::Error> {
        self.work
            .basic_qos(prefetch, BasicQosOptions::default())
            .await?;
        let mut arguments = options.arguments.clone();
        arguments.insert("x-priority".into(), options.priority.into());
        let consumer = self.work.basic_consume(
            names.server.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            arguments,
        );
        self.consumers.push(consumer.await?);
        self.lookout.consumes();
        Ok(())
    }

    /// Ends the delivery of messages; those that are here already can still be settled.
    pub(super) async fn cancel(&mut self) -> Result<(), lapin::Error> {
        for consumer in &self.consumers {
            self.work
                .basic_cancel(consumer.tag(), BasicCancelOptions::default())
                .await?;
        }
        self.lookout.consumes_no_more();
        Ok(())
    }

    /// Takes into the hands what has arrived.
    pub(super) fn gather(&mut self) {
        for consumer in &mut self.consumers {
            while let Some(Some(Ok(delivery))) = consumer.next().now_or_never() {
                self.in_hand.push((delivery, Disposition::HandOver));
            }
        }
    }

    /// Puts what is in hand back in its old place on Q, such that a quorum queue of RabbitMQ 4.3 does
    /// not count it and does not hold it back.
    ///
    /// The order matters: nothing comes after the cancelled consumer, the roll-back takes up what was
    /// acknowledged and not committed, and nothing may be said while the commit is under way.
    pub(super) async fn give_back(&mut self, connection: &Connection) -> Result<(), lapin::Error> {
        let all = BasicNackOptions {
            multiple: true,
            requeue: true,
        };
        let prepare = async {
            self.cancel().await?;
            self.work.tx_rollback().await?;
            self.work.basic_nack(0, all).await
        };
        let Ok(prepared) = tokio::time::timeout(GIVE_BACK, prepare).await else {
            return Ok(());
        };
        prepared?;
        tokio::select! {
            committed = self.work.tx_commit() => committed,
            () = connection.ended() => Ok(()),
        }
    }

    /// Closes the channels, which gives back what is still in hand.
    pub(super) async fn close(self) {
        probe::close(&self.work).await;
        self.lookout.close().await;
    }
}
