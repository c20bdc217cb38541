//! The daemon: settings in, connections and workers out, and an orderly end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::amqp::connection::ConnectionError;
use crate::amqp::counters::Counters;
use crate::amqp::handover::{HandOver, Manner};
use crate::amqp::outbox::Outbox;
use crate::amqp::supervisor::{Line, supervise};
use crate::amqp::topology::{Names, consumer_arguments};
use crate::config::{Backend, Mode, Settings};
use crate::progress::{Roots, Tracker};
use crate::rpc::dispatcher::Api;
use crate::rpc::version::Version;
use crate::sessions::{Alone, Beside, Replies};
use crate::worker::{Policy, Worker};

/// How long calls in hand may take to be answered after the signal to stop.
const FINISH: Duration = Duration::from_secs(2);

/// How long answers may take to reach the broker after that.
const FLUSH: Duration = Duration::from_secs(2);

/// Runs until `stop`, then finishes what is in hand, all within five seconds.
///
/// # Errors
///
/// When somebody else serves our queues ([`ConnectionError::Refused`]).
pub async fn run(
    settings: Settings,
    stop: impl Future<Output = ()>,
) -> Result<(), ConnectionError> {
    let counters = Arc::new(Counters::default());
    let intake_stop = CancellationToken::new();
    let outbox_stop = CancellationToken::new();
    let calls = TaskTracker::new();

    let progress = &settings.progress;
    let tracker = Tracker::new(
        Roots {
            proc: progress.proc_root.clone(),
            sys: progress.sys_root.clone(),
            dev: progress.dev_root.clone(),
        },
        progress.scan_interval,
    );
    let watch_stop = intake_stop.clone();
    let watcher = tokio::spawn(
        tracker
            .clone()
            .watch(async move { watch_stop.cancelled().await }),
    );

    let (slot, outbox) = Outbox::new(settings.rabbit.kombu_missing_consumer_retry_timeout);
    let workers: Vec<Worker> = settings
        .backends
        .iter()
        .map(|backend| {
            Worker::new(
                policy(&settings, backend),
                tracker.clone(),
                slot.clone(),
                calls.clone(),
            )
        })
        .collect();
    drop(slot);

    let line = |what: &str| Line {
        brokers: settings.brokers.clone(),
        label: format!("cinder-progress:{}:{what}", std::process::id()),
        rabbit: settings.rabbit.clone(),
    };
    let replies = tokio::spawn({
        let (line, stop) = (line("replies"), outbox_stop.clone());
        let counters = Arc::clone(&counters);
        async move {
            let session = Replies {
                outbox,
                counters: &counters,
                stop: &stop,
            };
            supervise(line, &counters, &stop, session).await
        }
    });
    let mut intake = tokio::spawn(intake(
        line("intake"),
        settings.clone(),
        workers,
        Arc::clone(&counters),
        intake_stop.clone(),
    ));

    info!(
        mode = ?progress.mode,
        topics = ?settings.backends.iter().map(|b| &b.topic).collect::<Vec<_>>(),
        "started"
    );
    let refused = tokio::select! {
        () = stop => None,
        ended = &mut intake => ended.ok().and_then(Result::err),
    };
    info!("stopping");
    intake_stop.cancel();
    // The workers, and with them their slots, end with the intake and with the last call.
    if refused.is_none() {
        wait("intake", FINISH, intake).await;
    }
    calls.close();
    wait("calls", FINISH, calls.wait()).await;
    wait("replies", FLUSH, replies).await;
    outbox_stop.cancel();
    drop(watcher);
    info!("stopped");
    refused.map_or(Ok(()), Err)
}

async fn wait(what: &str, limit: Duration, end: impl Future) {
    if tokio::time::timeout(limit, end).await.is_err() {
        warn!(what, ?limit, "not finished in time");
    }
}

fn policy(settings: &Settings, backend: &Backend) -> Policy {
    let (major, minor) = settings.progress.rpc_version;
    Policy {
        mode: settings.progress.mode,
        api: Api {
            version: Version::new(major, minor),
            ping_enabled: settings.rpc_ping_enabled,
        },
        migration_mode: backend.migration_mode.clone(),
        volume_name_template: settings.volume_name_template.clone(),
        unknown_progress: settings.progress.unknown_progress.clone(),
    }
}

async fn intake(
    line: Line,
    settings: Settings,
    workers: Vec<Worker>,
    counters: Arc<Counters>,
    stop: CancellationToken,
) -> Result<(), ConnectionError> {
    let (counters, stop) = (&*counters, &stop);
    let backends = settings.backends.iter().map(|b| names(&settings, b));
    match settings.progress.mode {
        Mode::Sidecar => {
            let backends = backends
                .zip(workers)
                .map(|(names, worker)| (HandOver::new(names, manner(&settings)), worker))
                .collect();
            let session = Beside {
                backends,
                served: false,
                counters,
                stop,
            };
            supervise(line, counters, stop, session).await
        }
        Mode::Standalone => {
            let session = Alone {
                backends: backends.zip(workers).collect(),
                rabbit: &settings.rabbit,
                served: false,
                stop,
            };
            supervise(line, counters, stop, session).await
        }
    }
}

fn names(settings: &Settings, backend: &Backend) -> Names {
    Names {
        exchange: settings.control_exchange.clone(),
        topic: backend.topic.clone(),
        server: backend.server_queue.clone(),
        fanout: backend.fanout_exchange.clone(),
    }
}

fn manner(settings: &Settings) -> Manner {
    Manner {
        priority: settings.progress.consumer_priority,
        prefetch: settings.progress.prefetch,
        arguments: consumer_arguments(&settings.rabbit),
    }
}
