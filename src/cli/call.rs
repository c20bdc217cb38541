//! `call`: asks over the broker as cinder-api would, and prints the answer or the failure.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::{log, run_to_end};
use crate::amqp::caller::{Caller, Sent};
use crate::amqp::connection::{Connection, ConnectionError};
use crate::amqp::inspect::queues::{QueuesFound, look};
use crate::amqp::message::Message;
use crate::amqp::topology::TopicNames;
use crate::config::{Address, Mode, Settings};
use crate::rpc::call::{Call, ProgressQuery, RemoteFailure, Reply, ReplyError};

/// How long the look-up of the queues may take after the call has failed.
const LOOK: Duration = Duration::from_secs(5);

/// The arguments of `call`.
#[derive(Debug, Args)]
pub(super) struct CallArguments {
    /// The volume's service as cinder names it: <host>@<backend>, with or without #<pool>
    #[arg(long, value_name = "HOST", value_parser = service)]
    host: String,
    /// The volume's id
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    volume_id: String,
    /// The volume's size
    #[arg(long, value_name = "GIB")]
    size: u64,
    /// The id in the volume's name on the backend, if it differs since an earlier migration
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    name_id: Option<String>,
    /// The volume's migration_status
    #[arg(long, value_name = "STATUS", default_value = "migrating")]
    migration_status: String,
    /// The RPC version of the call [default: rpc_version of the settings]
    #[arg(long, value_name = "VERSION")]
    rpc_version: Option<String>,
    /// How long to wait for the answer, 1 to 86400 [default: rpc_response_timeout of the settings]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: Option<u64>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum CallFailure {
    #[error("no broker of transport_url can be reached")]
    NoBroker(Vec<(String, ConnectionError)>),
    #[error("nobody serves {host}: no queue {queue}")]
    NoQueue { host: String, queue: String },
    #[error("there is no exchange {0}")]
    NoExchange(String),
    #[error("the broker has refused the call: queue {0} is full")]
    Full(String),
    #[error("no answer within {waited:?} (in cinder-api: MessagingTimeout)")]
    TimedOut {
        waited: Duration,
        queue: String,
        seen: Option<QueuesFound>,
    },
    #[error("{}.{}: {}", .failure.module, .failure.class, .failure.message)]
    Failed {
        failure: RemoteFailure,
        seen: Option<QueuesFound>,
    },
    #[error(transparent)]
    Reply(#[from] ReplyError),
    #[error("the connection to the broker was lost: {0}")]
    Connection(#[from] ConnectionError),
}

/// Runs the verb.
pub(super) fn call(settings: &Settings, wanted: &CallArguments) -> ExitCode {
    log::start(settings.debug);
    run_to_end(async {
        match ask(settings, wanted).await {
            Ok(Value::String(answer)) => println!("{answer}"),
            Ok(answer) => println!("{answer}"),
            Err(trouble) => {
                explain(&trouble, settings.debug);
                return ExitCode::FAILURE;
            }
        }
        ExitCode::SUCCESS
    })
}

async fn ask(settings: &Settings, wanted: &CallArguments) -> Result<Value, CallFailure> {
    let address = match settings.progress.mode {
        Mode::Direct => Address::of_daemon_for_volume_host(&wanted.host),
        Mode::Sidecar | Mode::Standalone => Address::of_volume_host(&wanted.host),
    };
    let names = TopicNames::of(&settings.control_exchange, &address);
    let (major, minor) = settings.progress.rpc_version;
    let question = ProgressQuery {
        volume_id: wanted.volume_id.clone(),
        name_id: wanted.name_id.clone(),
        size: wanted.size,
        host: wanted.host.clone(),
        migration_status: wanted.migration_status.clone(),
        version: wanted
            .rpc_version
            .clone()
            .unwrap_or_else(|| format!("{major}.{minor}")),
    };
    let waited = wanted
        .timeout
        .map_or(settings.rpc_response_timeout, Duration::from_secs);

    let connection = connect(settings).await?;
    let outcome = exchange(&connection, &names, &question, waited).await;
    let outcome = match outcome {
        Err(CallFailure::TimedOut { waited, queue, .. }) => Err(CallFailure::TimedOut {
            seen: glance(&connection, &names).await,
            waited,
            queue,
        }),
        Err(CallFailure::Failed { failure, .. }) if failure.is_refusal() => {
            Err(CallFailure::Failed {
                seen: glance(&connection, &names).await,
                failure,
            })
        }
        outcome => outcome,
    };
    connection.close().await;
    outcome
}

/// Connects to the first host that accepts the login.
async fn connect(settings: &Settings) -> Result<Connection, CallFailure> {
    let label = format!("cinder-progress:{}:call", std::process::id());
    let mut causes = Vec::new();
    for host in &settings.brokers.hosts {
        match Connection::open(&settings.brokers, host, &settings.rabbit, &label).await {
            Ok(connection) => return Ok(connection),
            Err(cause) => causes.push((format!("{}:{}", host.host, host.port), cause)),
        }
    }
    Err(CallFailure::NoBroker(causes))
}

/// One question and its answer.
async fn exchange(
    connection: &Connection,
    names: &TopicNames,
    question: &ProgressQuery,
    waited: Duration,
) -> Result<Value, CallFailure> {
    let call = Call::new();
    let deadline = Instant::now() + waited;
    let timed_out = || CallFailure::TimedOut {
        waited,
        queue: names.server.clone(),
        seen: None,
    };
    let mut caller = timeout_at(deadline, Caller::open(connection, &call.reply_queue))
        .await
        .map_err(|_| timed_out())??;
    let body = call.body(question);
    let sending = caller.send(&names.exchange, &names.server, &body, waited);
    match timeout_at(deadline, sending)
        .await
        .map_err(|_| timed_out())??
    {
        Sent::Taken => {}
        Sent::NoQueue => {
            return Err(CallFailure::NoQueue {
                host: question.host.clone(),
                queue: names.server.clone(),
            });
        }
        Sent::NoExchange => return Err(CallFailure::NoExchange(names.exchange.clone())),
        Sent::Refused => return Err(CallFailure::Full(names.server.clone())),
    }
    loop {
        let delivery = timeout_at(deadline, caller.next())
            .await
            .map_err(|_| timed_out())??;
        let message = Message::of(&delivery);
        match call.read(message.body, message.compression)? {
            Some(Reply::Answer(answer)) => return Ok(answer),
            Some(Reply::Failed(failure)) => {
                return Err(CallFailure::Failed {
                    failure,
                    seen: None,
                });
            }
            Some(Reply::StillWorking) | None => {}
        }
    }
}

/// The state of the queues, if the broker answers.
async fn glance(connection: &Connection, names: &TopicNames) -> Option<QueuesFound> {
    let looked = tokio::time::timeout(LOOK, look(connection, names)).await;
    looked.ok()?.ok()
}

/// Prints the failure, and below it what it means and what to do.
fn explain(trouble: &CallFailure, debug: bool) {
    eprintln!("cinder-progress: {trouble}");
    match trouble {
        CallFailure::NoBroker(causes) => {
            for (broker, cause) in causes {
                eprintln!("  {broker}: {cause}");
            }
        }
        CallFailure::NoQueue { .. } => {
            eprintln!(
                "  neither a cinder-volume nor a cinder-progress of that name has ever started here:"
            );
            eprintln!(
                "  compare --host with `cinder service-list`, and transport_url (its virtual host"
            );
            eprintln!("  too) and control_exchange with the node's cinder.conf");
        }
        CallFailure::NoExchange(_) => {
            eprintln!(
                "  no service of cinder has ever started on this broker: check transport_url (its"
            );
            eprintln!("  virtual host too) and control_exchange");
        }
        CallFailure::Full(_) => {
            eprintln!(
                "  its consumers do not keep up, or are not there: look at the node's services"
            );
        }
        CallFailure::TimedOut { queue, seen, .. } => {
            eprintln!("  {}", at_a_time_out(queue, seen.as_ref()));
        }
        CallFailure::Failed { failure, seen } => {
            if failure.is_refusal() && !failure.is_of_a_daemon() {
                eprintln!("  {}", passed_by(seen.as_ref()));
            }
            if debug {
                for piece in &failure.traceback {
                    for line in piece.lines() {
                        eprintln!("  | {line}");
                    }
                }
            }
        }
        CallFailure::Reply(_) | CallFailure::Connection(_) => {}
    }
}

/// What a time-out means, by the state of the queues.
fn at_a_time_out(queue: &str, seen: Option<&QueuesFound>) -> String {
    let Some(seen) = seen else {
        return format!("and the broker does not tell how queue {queue} stands");
    };
    match seen.server {
        None => format!("queue {queue} is gone meanwhile: its services have stopped"),
        Some(standing) if standing.consumers == 0 => format!(
            "queue {queue} has no consumer: neither cinder-volume nor cinder-progress runs on that node"
        ),
        Some(_) if seen.daemon => format!(
            "a cinder-progress is connected to queue {queue} but did not answer: see its log; \
             `cinder-progress status` on that node shows whether /proc can be read"
        ),
        Some(_) => format!(
            "queue {queue} has a consumer but no cinder-progress is connected: cinder-volume has \
             taken the call and not answered it"
        ),
    }
}

/// What a refusal by cinder-volume means.
fn passed_by(seen: Option<&QueuesFound>) -> &'static str {
    match seen {
        Some(seen) if seen.daemon => {
            "cinder-volume answered, not cinder-progress, though one is connected: it stands aside while \
             cinder-volume does not keep up, or serves a lower rpc_version than was asked for; its log says which"
        }
        Some(_) => {
            "cinder-volume answered: no cinder-progress is connected for that service. Is it running on the \
             node (`cinder-progress check` there), with the host and enabled_backends of this cinder-volume?"
        }
        None => "cinder-volume answered, not cinder-progress: is it running on that node?",
    }
}

/// Checks that the name of a service fits into names of queues.
fn service(text: &str) -> Result<String, String> {
    let service = text.split('#').next().unwrap_or_default();
    if service.is_empty() || service.starts_with('@') || text.contains(char::is_control) {
        return Err("expected <host>@<backend> or <host>@<backend>#<pool>".to_owned());
    }
    Address::of(service).check()?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::topology::QueueState;

    fn seen(consumers: u32, daemon: bool) -> QueuesFound {
        let standing = QueueState {
            ready: 0,
            consumers,
        };
        QueuesFound {
            topic: Some(standing),
            server: Some(standing),
            daemon,
        }
    }

    #[test]
    fn services_are_names_of_queues() {
        for good in ["node1", "node1@lvm", "node1@lvm#pool", "rbd:volumes@ceph"] {
            assert_eq!(service(good), Ok(good.to_owned()));
        }
        for bad in ["", "#pool", "@lvm", "node1@l\nvm"] {
            assert!(service(bad).is_err(), "{bad:?}");
        }
        assert!(service(&"x".repeat(200)).is_err());
    }

    #[test]
    fn a_time_out_is_explained_by_the_queues() {
        let said = |seen: Option<&QueuesFound>| at_a_time_out("Q", seen);
        assert!(said(Some(&seen(0, false))).contains("no consumer"));
        assert!(said(Some(&seen(2, true))).contains("a cinder-progress is connected"));
        assert!(said(Some(&seen(1, false))).contains("no cinder-progress is connected"));
        assert!(said(None).contains("does not tell"));
    }
}
