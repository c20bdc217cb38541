//! Looking queues up while serving, within a time limit.
//!
//! **Where trouble comes from.** A question that is given up is still answered, and the broker
//! closes the channel on which a missing queue was asked for. That close may meet ours; lapin then
//! takes it for an error of the whole connection. And a broker that does not answer does not
//! answer our close either. So a channel with a question is not closed before the answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lapin::Channel;
use tokio_util::sync::CancellationToken;

use crate::amqp::connection::{Connection, ConnectionError};
use crate::amqp::topology::{QueueState, look_up};

/// A channel of its own to ask on: nothing is delivered on it. What the broker still delivers on
/// one that it has closed makes lapin give up the whole connection.
#[derive(Debug)]
pub struct Probe {
    channel: Channel,
    ended: CancellationToken,
    /// A question was given up: the channel belongs to its answer.
    given_up: AtomicBool,
}

impl Probe {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// What ended the connection.
    pub async fn open(connection: &Connection) -> Result<Self, ConnectionError> {
        Ok(Self {
            channel: connection.channel().await?,
            ended: connection.end(),
            given_up: AtomicBool::new(false),
        })
    }

    /// How `queue` stands; `None` if the broker does not answer within `limit`. Nothing can be
    /// asked any more then.
    ///
    /// # Errors
    ///
    /// Those of [`look_up`].
    pub async fn find(
        &self,
        queue: &str,
        limit: Duration,
    ) -> Result<Option<QueueState>, lapin::Error> {
        let (channel, name) = (self.channel.clone(), queue.to_owned());
        let mut question = Box::pin(async move {
            let answer = look_up(&channel, &name).await;
            (answer, channel)
        });
        if let Ok((answer, _)) = tokio::time::timeout(limit, &mut question).await {
            return answer.map(Some);
        }
        self.given_up.store(true, Ordering::Relaxed);
        let ended = self.ended.clone();
        tokio::spawn(async move {
            tokio::select! {
                (_, channel) = question => close(&channel).await,
                () = ended.cancelled() => {}
            }
        });
        Ok(None)
    }

    /// Whether a question was given up: nothing can be asked any more.
    pub fn has_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Closes it, at once or when what was given up is answered.
    pub async fn close(self) {
        if !self.has_given_up() {
            close(&self.channel).await;
        }
    }
}

/// Closes a channel that is still open.
pub async fn close(channel: &Channel) {
    if channel.status().connected() {
        // Whatever comes of it, the channel is not used again.
        let _ = channel.close(200, "standing aside".into()).await;
    }
}
