//! What is asked about queues changes nothing on the broker, even where a queue is missing, and costs
//! no connection, even where nobody waits for the answer.
//!
//! Inside of the daemon both are races; here the library is asked on purpose.

use std::time::Duration;

use cinder_progress::amqp::connection::Connection;
use cinder_progress::amqp::handover::probe::Probe;
use cinder_progress::amqp::inspect::queue_type::Inquiry;
use cinder_progress::config::{Sources, load};

use crate::support::broker::SharedBroker;
use crate::support::listing::Listing;
use crate::support::proxy::{Flow, Proxy};
use crate::support::service::Service;
use crate::support::wait::until;

/// Each way.
const FAR: Duration = Duration::from_millis(100);

/// Less than there and back.
const IMPATIENT: Duration = Duration::from_millis(20);

async fn connect(url: &str, service: &Service) -> Connection {
    let overrides = [
        ("transport_url", url),
        ("host", &service.host),
        ("enabled_backends", "lvm"),
    ];
    let settings = load(&Sources {
        config_files: vec!["/dev/null".into()],
        overrides: overrides
            .map(|(option, value)| ("DEFAULT".into(), option.into(), value.into()))
            .into(),
        ..Sources::default()
    })
    .unwrap();
    let brokers = &settings.brokers;
    let opened = Connection::open(brokers, &brokers.hosts[0], &settings.rabbit, "asks");
    opened.await.unwrap()
}

#[tokio::test]
async fn about_the_type_of_a_missing_queue() {
    let service = Service::unique();
    let connection = connect(&SharedBroker::transport_url(), &service).await;
    let inquiry = Inquiry::of(&connection).await.unwrap();
    assert!(matches!(inquiry, Inquiry::Types(_)), "RabbitMQ since 3.8");
    assert_eq!(inquiry.declared(&service.topic()).await.unwrap(), None);
    let nothing = Listing::now().await.of(&service);
    assert!(nothing.is_empty(), "{nothing:?}");
}

/// The broker closes the channel on which the question was asked.
#[tokio::test]
async fn about_a_missing_queue_when_the_answer_comes_too_late() {
    let service = Service::unique();
    let proxy = Proxy::start(&SharedBroker::transport_url()).await;
    let connection = connect(&proxy.transport_url(), &service).await;
    proxy.flow(Flow::Slow(FAR), Flow::Slow(FAR));
    for _ in 0..3 {
        let probe = Probe::open(&connection).await.unwrap();
        let found = probe.find(&service.topic(), IMPATIENT).await.unwrap();
        assert_eq!(found, None);
        probe.close().await;
    }
    until("all is answered", async || {
        connection.channel().await.ok().map(drop)
    })
    .await;
    assert!(!connection.has_ended());
}
