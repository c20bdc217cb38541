//! A backlog on Q when the daemon starts is handed over with little memory.
//!
//! After a long outage of cinder-volume thousands of messages wait; the daemon is a guest on a
//! storage node.

use crate::support::backlog;
use crate::support::broker::SharedBroker;

/// Messages that wait.
const MESSAGES: usize = 20_000;

#[tokio::test]
async fn twenty_thousand_messages() {
    let uri = SharedBroker::amqp_uri();
    let peak = backlog::peak_memory(&uri, &SharedBroker::transport_url(), MESSAGES).await;
    assert!(peak < backlog::LIMIT, "{peak} KiB");
}
