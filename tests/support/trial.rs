//! A load, and a bare cinder-volume that executes it: everything but the daemon and the fault.

use std::time::Duration;

use super::load::{Load, STEADY, Sent, properties, publish, publisher};
use super::operation;
use super::recorder::{Queues, Record, Recorder};
use super::service::Service;
use super::verdict::Verdict;
use super::wait::until;

/// Numbers of the operations that mark the end; no load counts so far.
const LAST: u64 = 1 << 60;

/// A running load under which faults are made.
pub struct Trial {
    /// The service, with names that no other test has.
    pub service: Service,
    /// The bare cinder-volume.
    pub recorder: Recorder,
    /// The load on Q.
    pub load: Load,
    uri: String,
}

impl Trial {
    /// Starts the consumer and then the load. The load waits for nothing: start the daemon before or after.
    pub async fn start(amqp_uri: &str, service: &Service, queues: Queues) -> Self {
        Self::start_at(amqp_uri, service, queues, STEADY).await
    }

    /// The same, with another pause between two operations.
    pub async fn start_at(
        amqp_uri: &str,
        service: &Service,
        queues: Queues,
        pause: Duration,
    ) -> Self {
        let recorder = Recorder::start(amqp_uri, service, queues).await;
        Self {
            load: Load::start(amqp_uri, service, pause),
            service: service.clone(),
            recorder,
            uri: amqp_uri.to_owned(),
        }
    }

    /// Ends the load and waits until all of it has come, and whatever might come besides.
    pub async fn finish(self) -> Verdict {
        self.end(&[], false).await
    }

    /// The same, and waits until each progress call has an answer or an error.
    pub async fn finish_answered(self) -> Verdict {
        self.end(&[], true).await
    }

    /// The same where others, stopped by now, have taken a part of the load.
    pub async fn finish_with(self, others: &[&Recorder]) -> Verdict {
        self.end(others, false).await
    }

    async fn end(self, others: &[&Recorder], answered: bool) -> Verdict {
        let Self {
            service,
            recorder,
            load,
            uri,
        } = self;
        let sent = load.finish().await;
        let records = || {
            let mut records: Vec<Record> =
                others.iter().flat_map(|other| other.records()).collect();
            records.extend(recorder.records());
            records
        };
        if all_came(&sent, &records, answered).await {
            // What is still under way on either queue comes before these.
            mark(&uri, &service.server_queue(), LAST, &recorder).await;
            mark(&uri, &service.topic(), LAST + 1, &recorder).await;
        }
        let mut records = records();
        records.retain(|record| record.number.is_none_or(|number| number < LAST));
        Verdict::of(&sent, &records)
    }
}

async fn mark(uri: &str, queue: &str, number: u64, recorder: &Recorder) {
    until("the end is marked on the queue", async || {
        let (_connection, channel) = publisher(uri).await?;
        publish(&channel, queue, &operation::cast(number), properties()).await
    })
    .await;
    until("the mark comes", async || {
        let records = recorder.records();
        let mut latest = records.iter().rev();
        latest
            .find(|record| record.number == Some(number))
            .map(drop)
    })
    .await;
}

/// Whether all that was accepted has come before patience ends.
async fn all_came(sent: &Sent, records: &impl Fn() -> Vec<Record>, answered: bool) -> bool {
    let deadline = tokio::time::Instant::now() + super::wait::PATIENCE;
    while tokio::time::Instant::now() < deadline {
        let verdict = Verdict::of(sent, &records());
        let is_answered = !answered || verdict.progress.unanswered == 0;
        if verdict.lost.is_empty() && verdict.unanswered.is_empty() && is_answered {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}
