//! Checks the queues of each backend, by passive declares.

use std::time::Duration;

use super::report::Report;
use crate::amqp::caller::{Caller, Sent};
use crate::amqp::connection::{Connection, ConnectionError};
use crate::amqp::handover::BACKLOG;
use crate::amqp::inspect::queue_type::{Declared, Inquiry};
use crate::amqp::inspect::queues::{QueuesFound, look};
use crate::amqp::inspect::rights::may_publish;
use crate::amqp::topology::{QueueState, TopicNames};
use crate::config::{Mode, Settings};
use crate::rpc::call::{self, Call};

/// How long one look-up of a backend's queues may take.
const LOOK: Duration = Duration::from_secs(10);

/// The state of a queue, and its type if the broker reports it.
type AQueue<'a> = (QueueState, Option<&'a Declared>);

/// The queues of one backend.
struct BackendQueues {
    seen: QueuesFound,
    topic: Option<Declared>,
    server: Option<Declared>,
}

impl BackendQueues {
    async fn at(connection: &Connection, names: &TopicNames) -> Result<Self, ConnectionError> {
        Ok(Self {
            seen: look(connection, names).await?,
            topic: None,
            server: None,
        })
    }

    /// Asks for the types of the queues that exist.
    async fn types(
        &mut self,
        inquiry: &Inquiry<'_>,
        names: &TopicNames,
    ) -> Result<(), ConnectionError> {
        if self.seen.topic.is_some() {
            self.topic = inquiry.declared(&names.topic).await?;
        }
        if self.seen.server.is_some() {
            self.server = inquiry.declared(&names.server).await?;
        }
        Ok(())
    }

    fn topic(&self) -> Option<AQueue<'_>> {
        Some((self.seen.topic?, self.topic.as_ref()))
    }

    fn server(&self) -> Option<AQueue<'_>> {
        Some((self.seen.server?, self.server.as_ref()))
    }
}

/// Prints lines for the queues of each backend.
pub(super) async fn report(report: &mut Report, settings: &Settings, connection: &Connection) {
    rights(report, connection).await;
    if settings.progress.mode == Mode::Direct {
        return own_topics(report, settings, connection).await;
    }
    let inquiry = in_time(Inquiry::of(connection)).await;
    let inquiry = inquiry.and_then(Result::ok);
    for backend in &settings.backends {
        let names = TopicNames::of(&settings.control_exchange, &backend.address);
        match in_time(BackendQueues::at(connection, &names)).await {
            Some(Ok(mut found)) => {
                if let Some(inquiry) = &inquiry {
                    // Without an answer the line has "type not told".
                    let _ = in_time(found.types(inquiry, &names)).await;
                }
                lines(report, settings.progress.mode, &names, &found);
            }
            Some(Err(error)) => report.fail(
                "queues",
                format!("{}: {error}", names.topic),
                "give the user of transport_url the permissions that cinder-volume has: rabbitmqctl \
                 set_permissions -p VHOST USER '.*' '.*' '.*' (RabbitMQ 4.2.6 and 4.3.0 want configure \
                 for a look, all want read for a queue that is consumed)",
            ),
            None => report.fail(
                "queues",
                format!("{}: the broker does not tell within {LOOK:?}", names.topic),
                "look at the broker: rabbitmqctl list_queues, rabbitmq-diagnostics check_alarms",
            ),
        }
    }
}

/// Prints a line for the daemon's own topic of each backend, in mode direct.
async fn own_topics(report: &mut Report, settings: &Settings, connection: &Connection) {
    for backend in &settings.backends {
        let names = TopicNames::of(&settings.control_exchange, &backend.own);
        match in_time(is_served(connection, &names)).await {
            Some(Ok(true)) => report.ok(
                "daemon",
                format!("a cinder-progress serves {}", names.topic),
            ),
            Some(Ok(false)) => report.fail(
                "daemon",
                format!("no cinder-progress serves {}", names.topic),
                "start it on this node: systemctl start cinder-progress, or cinder-progress serve",
            ),
            Some(Err(error)) => report.fail(
                "daemon",
                format!("{}: {error}", names.topic),
                "give the user of transport_url the permissions that cinder-volume has",
            ),
            None => report.fail(
                "daemon",
                format!("{}: the broker does not tell within {LOOK:?}", names.topic),
                "look at the broker: rabbitmqctl list_queues, rabbitmq-diagnostics check_alarms",
            ),
        }
    }
}

/// Whether a daemon serves its own topic. The name of the queue is new at each start, so a ping is published to the
/// topic. The broker returns the ping if no queue is bound.
async fn is_served(connection: &Connection, names: &TopicNames) -> Result<bool, ConnectionError> {
    let call = Call::new();
    let caller = Caller::open(connection, &call.reply_queue).await?;
    let ping = call::ping();
    let sent = caller
        .send(&names.exchange, &names.server, &ping, LOOK)
        .await?;
    Ok(sent == Sent::Taken)
}

/// Prints a line for the permission that replies and hand-overs need.
async fn rights(report: &mut Report, connection: &Connection) {
    match in_time(may_publish(connection)).await {
        Some(Ok(true)) => report.ok("rights", "may write to the default exchange"),
        Some(Ok(false)) => report.fail(
            "rights",
            "may not write to the default exchange: neither answers nor operations could be sent",
            "let the user's write permission match amq.default: rabbitmqctl set_permissions -p VHOST \
             USER '.*' '.*' '.*', as cinder-volume's user has it",
        ),
        Some(Err(error)) => report.fail(
            "rights",
            format!("publishing by way of the default exchange fails: {error}"),
            "look at the broker's log",
        ),
        None => report.fail(
            "rights",
            format!("the broker does not take a message within {LOOK:?}"),
            "look at the broker: rabbitmq-diagnostics check_alarms",
        ),
    }
}

async fn in_time<T>(look: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(LOOK, look).await.ok()
}

fn lines(report: &mut Report, mode: Mode, names: &TopicNames, found: &BackendQueues) {
    let seen = &found.seen;
    match mode {
        Mode::Sidecar => {
            topic_queue(report, &names.topic, found);
            server_queue(report, &names.server, found);
        }
        // In mode direct the daemon uses no queue of cinder-volume's.
        Mode::Direct => return,
        Mode::Standalone => {
            alone(report, &names.topic, found.topic(), seen.daemon);
            alone(report, &names.server, found.server(), seen.daemon);
        }
    }
    if seen.daemon {
        report.ok(
            "daemon",
            format!("a cinder-progress serves {}", names.server),
        );
    } else {
        report.fail(
            "daemon",
            format!("no cinder-progress serves {}", names.server),
            "start it on this node: systemctl start cinder-progress, or cinder-progress serve",
        );
    }
}

/// Prints the line for the topic queue, beside cinder-volume.
fn topic_queue(report: &mut Report, queue: &str, found: &BackendQueues) {
    let Some((standing, declared)) = found.topic() else {
        missing(report, queue);
        return;
    };
    let found = said(queue, standing, declared);
    if standing.consumers == 0 {
        report.fail(
            "queue",
            found,
            "cinder-volume is not consuming: start it, see its log",
        );
    } else if standing.ready > BACKLOG {
        report.warn(
            "queue",
            found,
            "cinder-volume does not keep up: cinder-progress stands aside meanwhile",
        );
    } else {
        report.ok("queue", found);
    }
}

/// Prints the line for the server queue, beside cinder-volume.
fn server_queue(report: &mut Report, queue: &str, found: &BackendQueues) {
    let Some((standing, declared)) = found.server() else {
        missing(report, queue);
        return;
    };
    let expected = 1 + u32::from(found.seen.daemon);
    let found = said(queue, standing, declared);
    if standing.consumers > expected {
        report.warn(
            "queue",
            found,
            "more than this node's services consume it: does another node have the same host and backend?",
        );
    } else if standing.consumers == expected {
        report.ok("queue", found);
    } else if standing.consumers == 0 {
        report.fail(
            "queue",
            found,
            "nobody takes volume operations: start cinder-volume",
        );
    } else {
        report.warn(
            "queue",
            found,
            "cinder-progress stands aside at this moment, or cinder-volume has lost the queue: see their logs",
        );
    }
}

/// Prints the line for either queue, without a cinder-volume.
fn alone(report: &mut Report, queue: &str, found: Option<AQueue>, daemon: bool) {
    match found {
        None if daemon => report.fail(
            "queue",
            format!("{queue} is missing"),
            "somebody has deleted it: restart cinder-progress, which declares it",
        ),
        None => report.ok(
            "queue",
            format!("{queue}: not there yet, the daemon declares it"),
        ),
        Some((standing, declared)) if standing.consumers > u32::from(daemon) => report.fail(
            "queue",
            said(queue, standing, declared),
            "somebody else consumes it, as a cinder-volume would: set [progress] mode = sidecar",
        ),
        Some((standing, declared)) => report.ok("queue", said(queue, standing, declared)),
    }
}

fn missing(report: &mut Report, queue: &str) {
    report.fail(
        "queue",
        format!("{queue} is missing"),
        "cinder-volume declares it: start it, and compare host, enabled_backends, backend_host, \
         control_exchange and the virtual host with what it has",
    );
}

fn said(queue: &str, standing: QueueState, declared: Option<&Declared>) -> String {
    let QueueState { ready, consumers } = standing;
    let s = if consumers == 1 { "" } else { "s" };
    let wait = if ready == 1 {
        "message waits"
    } else {
        "messages wait"
    };
    let declared = declared.map_or("type not told".to_owned(), Declared::to_string);
    format!("{queue}: {consumers} consumer{s}, {ready} {wait} ({declared})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_shown_with_its_consumers_messages_and_type() {
        let state = |ready, consumers| QueueState { ready, consumers };
        let quorum = Declared {
            queue_type: "quorum".to_owned(),
            durable: true,
        };
        assert_eq!(
            said("Q", state(1, 2), Some(&quorum)),
            "Q: 2 consumers, 1 message waits (quorum, durable)"
        );
        assert_eq!(
            said("Q", state(0, 1), None),
            "Q: 1 consumer, 0 messages wait (type not told)"
        );
    }
}
