//! What the user of `transport_url` may do.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel};
use uuid::Uuid;

use crate::amqp::connection::{Connection, ConnectionError};
use crate::amqp::topology::is_refused;

/// Whether this user may publish by way of the default exchange, as every answer and every hand-over
/// does: write permission on `amq.default`.
///
/// Tried with a message to a queue that does not exist. The broker looks at the permission before it
/// looks for the queue, so a message that comes back was permitted, and nothing need be declared.
/// While the broker is short of memory or disk there is no answer.
///
/// # Errors
///
/// What ended the connection.
pub async fn may_publish(connection: &Connection) -> Result<bool, ConnectionError> {
    let channel = connection.channel().await?;
    tokio::select! {
        tried = publish_to_nowhere(&channel) => match tried {
            Ok(()) => Ok(true),
            Err(error) if is_refused(&error) => Ok(false),
            Err(error) => Err(error.into()),
        },
        () = connection.ended() => Err(ConnectionError::Ended),
    }
}

async fn publish_to_nowhere(channel: &Channel) -> Result<(), lapin::Error> {
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let mandatory = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let nowhere = format!("cinder-progress.rights.{}", Uuid::new_v4().simple());
    let publishing = channel.basic_publish(
        "".into(),
        nowhere.into(),
        mandatory,
        b"",
        BasicProperties::default(),
    );
    publishing.await?.await.map(drop)
}
