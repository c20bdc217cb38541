//! Messages that T did not take, on their way back to Q.

use std::collections::VecDeque;

use lapin::message::{BasicReturnMessage, Delivery};
use lapin::options::ConfirmSelectOptions;
use lapin::{BasicProperties, Confirmation};
use tracing::{error, warn};

use super::stand_aside::StandAside;
use super::transaction::publish_one;
use super::unsettled::{Unsettled, UnsettledGuard};
use crate::amqp::connection::Connection;
use crate::amqp::metrics::Counters;
use crate::liveness::TaskHandle;

/// Messages that are in nobody else's hands. Outlives connections.
#[derive(Debug)]
pub(super) struct Returned {
    /// Q.
    queue: String,
    messages: VecDeque<ReturnedMessage>,
    unsettled: Unsettled,
}

#[derive(Debug)]
struct ReturnedMessage {
    /// As long as the message is here.
    _unsettled: UnsettledGuard,
    properties: BasicProperties,
    body: Vec<u8>,
}

impl Returned {
    /// Those that belong on `queue`.
    pub(super) fn of(queue: &str, unsettled: Unsettled) -> Self {
        Self {
            queue: queue.to_owned(),
            messages: VecDeque::new(),
            unsettled,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The broker has returned this.
    pub(super) fn add_returned(&mut self, returned: BasicReturnMessage) {
        self.messages.push_back(ReturnedMessage {
            _unsettled: self.unsettled.begin(),
            properties: returned.delivery.properties,
            body: returned.delivery.data,
        });
    }

    /// The broker has acknowledged this and T has refused it.
    pub(super) fn add_refused(&mut self, refused: &Delivery) {
        self.messages.push_back(ReturnedMessage {
            _unsettled: self.unsettled.begin(),
            properties: refused.properties.clone(),
            body: refused.data.clone(),
        });
    }

    /// Publishes every message to Q, confirmed one by one.
    ///
    /// # Errors
    ///
    /// Why Q does not take one. The rest, the one in doubt included, stays here to be tried again.
    pub(super) async fn republish(
        &mut self,
        connection: &Connection,
        counters: &Counters,
        task: &TaskHandle,
    ) -> Result<(), StandAside> {
        if self.messages.is_empty() {
            return Ok(());
        }
        let channel = connection.channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        while let Some(message) = self.messages.front() {
            task.heartbeat();
            let publishing = publish_one(&channel, &self.queue, &message.properties, &message.body);
            // A queue without a leader may take long, and the message is in nobody else's hands.
            let confirmation = task.beating(async { publishing.await?.await }).await?;
            match confirmation {
                Confirmation::Ack(None) => {
                    self.messages.pop_front();
                    counters.republished.inc();
                }
                Confirmation::Ack(Some(_)) => return Err(StandAside::Missing(self.queue.clone())),
                Confirmation::Nack(_) | Confirmation::NotRequested => {
                    return Err(StandAside::Vanished(self.queue.clone()));
                }
            }
        }
        warn!(queue = %self.queue, "returned messages are back on their queue");
        Ok(())
    }
}

impl Drop for Returned {
    fn drop(&mut self) {
        if !self.messages.is_empty() {
            error!(
                queue = %self.queue,
                messages = self.messages.len(),
                "ending with messages that neither queue would take: they are lost"
            );
        }
    }
}
