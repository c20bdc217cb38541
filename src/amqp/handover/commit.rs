//! The end of a transaction: what was handed over, and what came back.

use lapin::Channel;
use lapin::message::Delivery;
use tracing::{debug, error};

use super::stand_aside::StandAside;
use super::transaction::{Judged, to_hand_over};
use super::{HandOver, HandOverContext};
use crate::amqp::connection::ConnectionError;
use crate::amqp::metrics::Counters;
use crate::amqp::topology::is_partial;

impl HandOver {
    /// Commits a transaction that has been filled with these messages.
    pub(super) async fn commit<T>(
        &mut self,
        channel: &Channel,
        messages: &[Judged],
        on: &HandOverContext<'_, T>,
    ) -> Result<(), StandAside> {
        let operations = to_hand_over(messages);
        // lapin sends publishes behind everything else: each of them was awaited, so that none
        // can fall behind the commit. And nothing may be sent before the commit is answered.
        // The answer is waited for as long as the connection lives, because the broker has begun both halves. Without
        // the channel a refusal would be missed, and a message on its way to a quorum queue without a leader would not
        // be sent to the next leader.
        let _unsettled = self.unsettled.begin();
        let committed = tokio::select! {
            // A refusal that comes with the end of the connection must not be missed.
            biased;
            committed = channel.tx_commit() => committed.map_err(StandAside::from),
            () = on.connection.ended() => Err(ConnectionError::Ended.into()),
        };
        // On a channel without confirms this gathers what the broker returned, and waits for
        // nothing; returns arrive before the answer to the commit, and may have arrived though
        // the answer has not.
        let returned = channel.wait_for_confirms().await?;
        on.counters.returned.inc_by(returned.len() as u64);
        let vanished = !returned.is_empty();
        let kept = operations.len().saturating_sub(returned.len());
        for message in returned {
            self.returned.add_returned(message);
        }
        if let Err(aside) = committed {
            return Err(self.refused(&operations, aside, on.counters));
        }
        on.counters.handed_over.inc_by(kept as u64);
        debug!(queue = %self.names.topic, messages = kept, "handed over");
        if vanished {
            return Err(StandAside::Vanished(self.names.topic.clone()));
        }
        Ok(())
    }

    /// The commit has failed.
    ///
    /// Nearly always the channel or connection has ended, and the broker has done all of the
    /// transaction or nothing: what it did not do is on Q still. But a queue that refuses a
    /// message (full, with `x-overflow` reject-publish, or its process just died) fails the
    /// transaction *after* the acknowledgements were carried out (RabbitMQ answers 406, "partial
    /// tx completion"). If there was one message it is that one, and it is ours to put back.
    fn refused(
        &mut self,
        operations: &[&Delivery],
        aside: StandAside,
        counters: &Counters,
    ) -> StandAside {
        let StandAside::Channel(error) = &aside else {
            return aside;
        };
        if !is_partial(error) {
            return aside;
        }
        let topic = &self.names.topic;
        if let [only] = operations {
            counters.returned.inc();
            self.returned.add_refused(only);
        } else {
            counters.in_doubt.inc_by(operations.len() as u64);
            error!(
                queue = %topic, messages = operations.len(),
                "the broker refused some of these messages and does not say which: look for \
                 operations that never started"
            );
        }
        StandAside::Refused(topic.clone())
    }
}
