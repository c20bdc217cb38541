//! A dashboard that asks about all of its volumes at once gets answers, and not cinder-volume's errors.
//!
//! Calls that find the daemon's hands full go past it to cinder-volume, which does not know them.

use lapin::options::BasicPublishOptions;
use lapin::{Channel, Connection, ConnectionProperties};

use crate::support::answers::{Answer, Answers};
use crate::support::broker::SharedBroker;
use crate::support::daemon::Daemon;
use crate::support::load::properties;
use crate::support::operation;
use crate::support::recorder::{Queues, Recorder};
use crate::support::service::{Service, unique_name};
use crate::support::wait::until;

/// As many as a page of a dashboard shows volumes, and then some: none may go past it.
const A_PAGE: usize = 64;

/// A daemon that stood aside for a moment, as it may on a busy machine, could not take them. It takes its time to come
/// back, so that most of these are for the first one of a bad time.
const TRIES: usize = 10;

struct Callers {
    service: Service,
    _connection: Connection,
    channel: Channel,
    answers: Answers,
    reply_queue: String,
}

impl Callers {
    async fn start(service: &Service) -> Self {
        let uri = SharedBroker::amqp_uri();
        let connection = Connection::connect(&uri, ConnectionProperties::default());
        let connection = connection.await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.tx_select().await.unwrap();
        let answers = Answers::default();
        let reply_queue = answers.listen(&connection).await.unwrap();
        Self {
            service: service.clone(),
            _connection: connection,
            channel,
            answers,
            reply_queue,
        }
    }

    /// Asks so often in one and the same instant, which is that of a commit. How many calls go past the daemon.
    async fn leaked(&self, calls: usize) -> usize {
        let ids: Vec<String> = (0..calls).map(|_| unique_name("call")).collect();
        for id in &ids {
            let body = operation::progress_call(&self.service, id, &self.reply_queue);
            let queue = self.service.server_queue();
            let options = BasicPublishOptions::default();
            let publishing =
                self.channel
                    .basic_publish("".into(), queue.into(), options, &body, properties());
            drop(publishing.await.unwrap());
        }
        self.channel.tx_commit().await.unwrap();
        let answers = until("all calls are answered", async || {
            ids.iter().map(|id| self.answers.to(id)).collect()
        });
        let answers: Vec<Answer> = answers.await;
        let failures = answers.iter().filter(|answer| **answer == Answer::Failure);
        failures.count()
    }
}

/// Asks about a page of volumes in the same instant; none of the calls may go past the daemon.
async fn are_answered(queues: Queues) {
    let service = Service::unique();
    let _cinder_volume = Recorder::start(&SharedBroker::amqp_uri(), &service, queues).await;
    let daemon = Daemon::beside(&service).await;
    let callers = Callers::start(&service).await;
    let mut leaked = Vec::new();
    for _ in 0..TRIES {
        let count = callers.leaked(A_PAGE).await;
        if count == 0 {
            return;
        }
        leaked.push(count);
    }
    panic!("{leaked:?} of {A_PAGE} went past it\n{}", daemon.log());
}

#[tokio::test]
async fn on_transient_queues() {
    are_answered(Queues::transient()).await;
}

#[tokio::test]
async fn on_quorum_queues() {
    are_answered(Queues::quorum()).await;
}
