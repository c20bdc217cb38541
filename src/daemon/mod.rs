//! The daemon: settings in, connections and workers out, and an orderly end.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{info, warn};

use crate::amqp::connection::backoff::Backoff;
use crate::amqp::connection::supervisor::{ConnectionConfig, FoundBroker, supervise};
use crate::amqp::handover::unsettled::Unsettled;
use crate::amqp::handover::{ConsumerOptions, HandOver, NEXT_LEADER};
use crate::amqp::metrics::Counters;
use crate::amqp::neighbour::DaemonIdentity;
use crate::amqp::replies::ReplyPublisher;
use crate::amqp::topology::{TopicNames, consumer_arguments};
use crate::config::{Backend, Listen, Mode, Rabbit, Settings};
use crate::liveness::{Liveness, Role, TaskHandle};
use crate::metrics::{self, Watched};
use crate::progress::{Roots, Tracker, Users};
use crate::worker::details::Paces;
use crate::worker::outcomes::Calls;
use crate::worker::policy::{LivePolicy, Policy};
use crate::worker::{self, Worker, WorkerContext};

/// One daemon at a time on a node.
mod lock;
/// Settings read again while the daemon runs.
pub mod reload;
/// What is done on each connection.
pub mod sessions;
/// How the daemon stands with the broker, for `status`.
pub mod status_file;
/// What the service manager is told.
pub mod systemd;

use reload::Reload;
use sessions::{OwnTopics, Replies, SidecarSession, StandaloneSession};

/// How long everything may take after the signal to stop, in all: 5 s, less what ending the
/// process takes. Longer only where an operation would be lost or doubled otherwise, see `finish_intake`.
const FINISH: Duration = Duration::from_millis(4500);

/// How much of that is kept for the answers to reach the broker.
const FLUSH: Duration = Duration::from_millis(1500);

/// The longest `heartbeat_timeout_threshold` of the connections for operations and replies. A daemon that hangs holds
/// its messages until the broker has missed heartbeats for two to three times as long. A call whose reply cannot leave
/// is left to cinder-volume once that is noticed. RabbitMQ advises 5 to 20 seconds.
const LONGEST_SILENCE: Duration = Duration::from_secs(15);

/// Why the daemon ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The address for metrics cannot be listened on.
    #[error("cannot listen on [progress] metrics_listen = {listen}")]
    Listen {
        /// Where.
        listen: Listen,
        /// Why not.
        source: io::Error,
    },
    /// A task has failed, which it must not; the service manager starts the daemon again.
    #[error("{task} has ended unexpectedly: {cause}")]
    Broken {
        /// Which task.
        task: &'static str,
        /// How it ended.
        cause: String,
    },
}

/// Runs until `stop`, then finishes its work: within five seconds, or within twenty-one where operations are not
/// settled. Each message from `asked` makes it read the settings again.
///
/// The order of the end:
///
/// 1. The intake stops consuming, own topics and metrics end, copies are followed no longer.
/// 2. The intake ends when all in its hands is handed over or given back (`finish_intake`).
/// 3. Calls under way are answered.
/// 4. The replies leave, if their connection is there.
/// 5. What is remembered is written down a last time: begun at 1, waited for here.
///
/// # Errors
///
/// Why it ended before that.
pub async fn run(
    settings: Settings,
    reload: Reload,
    mut asked: mpsc::Receiver<()>,
    stop: impl Future<Output = ()>,
) -> Result<(), Ended> {
    let started = SystemTime::now();
    // Listen first: a daemon that cannot listen must not begin to serve.
    let listener = match &settings.progress.metrics_listen {
        Some(listen) => Some(metrics::bind(listen).await.map_err(|source| {
            let listen = listen.clone();
            Ended::Listen { listen, source }
        })?),
        None => None,
    };
    let counters = Arc::new(Counters::default());
    let calls = Arc::new(Calls::default());
    let liveness = Liveness::of(settings.rabbit.heartbeat_timeout_threshold);
    let intake_stop = CancellationToken::new();
    let replies_stop = CancellationToken::new();
    let answering = TaskTracker::new();
    let unsettled = Unsettled::default();

    let progress = &settings.progress;
    let roots = Roots {
        proc: progress.proc_root.clone(),
        sys: progress.sys_root.clone(),
        dev: progress.dev_root.clone(),
        users: Users::and(&progress.dd_users),
    };
    let tracker = match progress.state_file.clone() {
        Some(file) => Tracker::remembering(roots, progress.scan_interval, file).await,
        None => Tracker::new(roots, progress.scan_interval),
    };
    let locked = CancellationToken::new();
    // The lock is held until everything is written down.
    let _lock = progress.state_file.clone().map(|state_file| {
        tracker.keep_state_file(false);
        let task = liveness.task(Role::Entry, None);
        let locking = lock_state_file(state_file, tracker.clone(), task, locked.clone());
        AbortOnDropHandle::new(tokio::spawn(locking))
    });
    if progress.state_file.is_none() {
        locked.cancel();
    }
    let watch_stop = intake_stop.clone();
    let mut watcher = tokio::spawn(
        tracker
            .clone()
            .watch(async move { watch_stop.cancelled().await }),
    );

    let (sender, publisher) =
        ReplyPublisher::new(settings.rabbit.kombu_missing_consumer_retry_timeout);
    let policies: Vec<LivePolicy> = settings
        .backends
        .iter()
        .map(|backend| LivePolicy::new(Policy::of(&settings, backend)))
        .collect();
    let paces = Paces::new(tracker.clone());
    let sampled = AbortOnDropHandle::new(tokio::spawn(paces.clone().watch()));
    let context = WorkerContext {
        tracker: tracker.clone(),
        paces,
        replies: sender.clone(),
        calls: Arc::clone(&calls),
        counters: Arc::clone(&counters),
        tasks: answering.clone(),
        room: worker::room(),
    };
    let workers: Vec<Worker> = policies
        .iter()
        .map(|policy| Worker::new(policy.clone(), context.clone()))
        .collect();
    // The publisher ends with the last sender: only the one that is dropped below is kept.
    drop(context);

    let found = FoundBroker::default();
    let line = |what: &str, role: Role| ConnectionConfig {
        brokers: settings.brokers.clone(),
        label: format!("cinder-progress:{}:{what}", std::process::id()),
        rabbit: settings.rabbit.clone(),
        keeper: liveness.task(role, None),
        found: found.clone(),
    };
    let mut replies = tokio::spawn({
        let line = ConnectionConfig {
            rabbit: attentive(settings.rabbit.clone()),
            ..line("replies", Role::Replies)
        };
        let stop = replies_stop.clone();
        let (counters, liveness) = (Arc::clone(&counters), liveness.clone());
        async move {
            let session = Replies {
                publisher,
                counters: &counters,
                liveness: &liveness,
                stop: &stop,
            };
            supervise(line, &counters, &stop, session).await
        }
    });
    let parts = Parts {
        settings: settings.clone(),
        workers,
        counters: Arc::clone(&counters),
        liveness: liveness.clone(),
        identity: DaemonIdentity::default(),
        unsettled: unsettled.clone(),
        locked,
    };
    let mut own_topics = tokio::spawn(own_topics(
        line("own topics", Role::OwnTopics),
        parts.clone(),
        intake_stop.clone(),
    ));
    let direct = progress.mode == Mode::Direct;
    // In mode direct nothing of cinder-volume's is served, so there is no connection for it.
    let mut intake = (!direct).then(|| {
        let line = ConnectionConfig {
            rabbit: attentive(settings.rabbit.clone()),
            ..line("intake", Role::Intake)
        };
        tokio::spawn(intake(line, parts.clone(), intake_stop.clone()))
    });
    drop(parts);

    if let Some(listener) = listener {
        let queues = settings.backends.iter().filter(|_| !direct);
        let own_topics = settings.backends.iter();
        let watched = Arc::new(Watched {
            started,
            counters,
            calls,
            tracker,
            liveness: liveness.clone(),
            queues: queues.map(|b| b.address.server_queue.clone()).collect(),
            own_topics: own_topics.map(|b| b.own.topic.clone()).collect(),
            policies: policies.clone(),
            settings_good: Arc::clone(&reload.good),
        });
        tokio::spawn(metrics::serve(listener, watched, intake_stop.clone()));
    }

    info!(
        mode = ?progress.mode,
        topics = ?settings.backends.iter().map(|b| &b.address.topic).collect::<Vec<_>>(),
        "started"
    );
    systemd::ready().await;
    let watched = AbortOnDropHandle::new(tokio::spawn(systemd::keep_told(liveness.clone())));
    let standing = progress.state_file.as_deref().map(|state_file| {
        let path = status_file::path_of(state_file);
        let writing = status_file::keep_written(path, liveness.clone());
        AbortOnDropHandle::new(tokio::spawn(writing))
    });
    let mut running = settings.clone();
    let reloads = async {
        while asked.recv().await.is_some() {
            reload.again(&mut running, &policies).await;
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        () = stop => Ok(()),
        ended = of(&mut intake) => Err(unexpected("the intake", ended)),
        ended = &mut own_topics => Err(unexpected("the serving of our own topics", ended)),
        ended = &mut replies => Err(unexpected("the sending of replies", ended)),
        ended = &mut watcher => Err(unexpected("the following of copies", ended)),
        () = reloads => Ok(()),
    };
    info!("stopping");
    let deadline = Instant::now() + FINISH;
    drop(watched);
    drop(standing);
    drop(sampled);
    let told = tokio::spawn(systemd::stopping());
    // Held until here: without a sender the publisher would have ended first, and hidden the intake's error.
    drop(sender);
    intake_stop.cancel();
    if let Some(intake) = &mut intake {
        finish_intake(deadline - FLUSH, &unsettled, intake).await;
    }
    // The answers have their time, however long the operations took.
    let deadline = deadline.max(Instant::now() + FLUSH);
    finish("own topics", deadline - FLUSH, &mut own_topics).await;
    answering.close();
    wait("calls", deadline - FLUSH, answering.wait()).await;
    // The senders have gone with the intake and the last call: the publisher ends when it is empty.
    if !liveness.is_connected(&Role::Replies) {
        replies_stop.cancel();
    }
    finish("replies", deadline, &mut replies).await;
    finish("writing down what is remembered", deadline, &mut watcher).await;
    wait("telling the service manager", deadline, told).await;
    info!("stopped");
    ended
}

/// Waits for an optional task.
async fn of<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

fn unexpected(task: &'static str, ended: Result<(), JoinError>) -> Ended {
    let cause = match ended {
        Ok(()) => "it had nothing more to do".to_owned(),
        Err(cause) => cause.to_string(),
    };
    Ended::Broken { task, cause }
}

/// Waits for a task; past the deadline the task is aborted, so that it releases what it holds.
async fn finish<T>(what: &str, deadline: Instant, task: &mut JoinHandle<T>) {
    if task.is_finished() {
        return;
    }
    wait(what, deadline, &mut *task).await;
    if !task.is_finished() {
        task.abort();
        // Only the end of the task is waited for; how it ended was decided above.
        let _ = task.await;
    }
}

/// Waits for the intake. Past the deadline the intake is aborted, but not while an operation is not settled: that may
/// take until a queue without a leader has the next one.
async fn finish_intake(deadline: Instant, unsettled: &Unsettled, intake: &mut JoinHandle<()>) {
    let mut deadline = deadline;
    let longest = deadline + NEXT_LEADER;
    while !intake.is_finished() {
        if tokio::time::timeout_at(deadline, &mut *intake)
            .await
            .is_ok()
        {
            return;
        }
        if unsettled.is_settled() {
            break;
        }
        tokio::select! {
            _ = &mut *intake => return,
            settled = tokio::time::timeout_at(longest, unsettled.settled()) => {
                if settled.is_err() {
                    warn!("operations are not settled: each may be lost or executed twice");
                    break;
                }
            }
        }
        // What is settled now may have held up the rest.
        deadline = Instant::now() + FLUSH;
    }
    finish("intake", Instant::now(), intake).await;
}

/// Locks the state file, then cancels `locked` and lets the tracker keep the file. The lock is held until this is
/// dropped.
async fn lock_state_file(
    state_file: PathBuf,
    tracker: Tracker,
    task: TaskHandle,
    locked: CancellationToken,
) {
    let _lock = lock::acquire(&state_file, &task).await;
    drop(task);
    tracker.keep_state_file(true);
    locked.cancel();
    std::future::pending().await
}

async fn wait(what: &str, deadline: Instant, end: impl Future) {
    if tokio::time::timeout_at(deadline, end).await.is_err() {
        warn!(what, "not finished in time");
    }
}

/// What both connections on which messages come in work with.
#[derive(Clone)]
struct Parts {
    settings: Settings,
    /// One for each backend.
    workers: Vec<Worker>,
    counters: Arc<Counters>,
    liveness: Liveness,
    identity: DaemonIdentity,
    unsettled: Unsettled,
    /// Cancelled when no other daemon with the same state file runs.
    locked: CancellationToken,
}

async fn intake(line: ConnectionConfig, parts: Parts, stop: CancellationToken) {
    let Parts {
        settings,
        workers,
        counters,
        liveness,
        identity,
        unsettled,
        locked,
    } = parts;
    tokio::select! {
        () = locked.cancelled() => {}
        () = stop.cancelled() => return,
    }
    let (counters, liveness, identity, stop) = (&*counters, &liveness, &identity, &stop);
    let exchange = &settings.control_exchange;
    let names = |backend: &Backend| TopicNames::of(exchange, &backend.address);
    let backends = settings.backends.iter().map(names);
    let own = |backend: &Backend| TopicNames::of(exchange, &backend.own);
    let own_topics = settings.backends.iter().map(own).collect();
    match settings.progress.mode {
        Mode::Sidecar => {
            let backends = backends
                .zip(workers)
                .map(|(names, worker)| {
                    let options = consumer_options(&settings);
                    (HandOver::new(names, options, unsettled.clone()), worker)
                })
                .collect();
            let session = SidecarSession {
                backends,
                own_topics,
                identity,
                served: false,
                patience: (settings.brokers.hosts.len() > 1).then(missing_patience),
                counters,
                liveness,
                stop,
            };
            supervise(line, counters, stop, session).await
        }
        // There is nothing of cinder-volume's to serve.
        Mode::Direct => {}
        Mode::Standalone => {
            let session = StandaloneSession {
                backends: backends.zip(workers).collect(),
                own_topics,
                identity,
                rabbit: &settings.rabbit,
                served: false,
                liveness,
                stop,
            };
            supervise(line, counters, stop, session).await
        }
    }
}

/// The same with heartbeats of at most [`LONGEST_SILENCE`]; none where they are off.
fn attentive(mut rabbit: Rabbit) -> Rabbit {
    let silence = &mut rabbit.heartbeat_timeout_threshold;
    *silence = (*silence).min(LONGEST_SILENCE);
    rabbit
}

/// How long the queues may be missing on one host before the next is tried: longer each time, because
/// most likely cinder-volume has not started yet.
fn missing_patience() -> Backoff {
    Backoff::new(
        Duration::from_secs(15),
        Duration::from_secs(30),
        Duration::from_secs(300),
    )
}

async fn own_topics(line: ConnectionConfig, parts: Parts, stop: CancellationToken) {
    let settings = &parts.settings;
    let names = |backend: &Backend| TopicNames::of(&settings.control_exchange, &backend.own);
    let backends = settings.backends.iter().map(names);
    let session = OwnTopics {
        backends: backends.zip(parts.workers).collect(),
        identity: &parts.identity,
        liveness: &parts.liveness,
        stop: &stop,
    };
    supervise(line, &parts.counters, &stop, session).await;
}

fn consumer_options(settings: &Settings) -> ConsumerOptions {
    ConsumerOptions {
        priority: settings.progress.consumer_priority,
        prefetch: settings.progress.prefetch,
        arguments: consumer_arguments(&settings.rabbit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    const TICK: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn an_intake_that_has_ended_is_not_waited_for() {
        let mut intake = tokio::spawn(async { panic!("broken") });
        assert!((&mut intake).await.is_err());
        let since = Instant::now();
        finish_intake(since + FLUSH, &Unsettled::default(), &mut intake).await;
        assert_eq!(since.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_intake_that_has_nothing_to_settle_is_aborted_at_the_deadline() {
        let mut intake = tokio::spawn(std::future::pending());
        let since = Instant::now();
        finish_intake(since + FLUSH, &Unsettled::default(), &mut intake).await;
        assert!(intake.is_finished());
        assert!(since.elapsed() <= FLUSH + TICK, "{:?}", since.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_intake_is_not_aborted_while_operations_are_not_settled() {
        let unsettled = Unsettled::default();
        let begun = unsettled.clone();
        let mut intake = tokio::spawn(async move {
            // What is settled gives way to the next that is not.
            for _ in 0..3 {
                let guard = begun.begin();
                tokio::time::sleep(NEXT_LEADER / 4).await;
                drop(guard);
                tokio::time::sleep(TICK).await;
            }
        });
        tokio::task::yield_now().await;
        let since = Instant::now();
        finish_intake(since + TICK, &unsettled, &mut intake).await;
        let took = since.elapsed();
        assert!(
            took >= NEXT_LEADER * 3 / 4 && took < NEXT_LEADER,
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_intake_that_never_settles_is_aborted_all_the_same() {
        let unsettled = Unsettled::default();
        let guard = unsettled.begin();
        let mut intake = tokio::spawn(async move {
            let _guard = guard;
            std::future::pending().await
        });
        let since = Instant::now();
        finish_intake(since + FLUSH, &unsettled, &mut intake).await;
        assert!(intake.is_finished());
        let longest = FLUSH + NEXT_LEADER;
        assert!(
            since.elapsed() <= longest + TICK * 2,
            "{:?}",
            since.elapsed()
        );
    }

    #[test]
    fn operations_are_not_held_up_for_cinders_three_minutes() {
        let nothing = Sources {
            config_files: vec!["/dev/null".into()],
            ..Sources::default()
        };
        let mut rabbit = load(&nothing).unwrap().rabbit;
        for (asked, expected) in [(60, 15), (4, 4), (0, 0)] {
            rabbit.heartbeat_timeout_threshold = Duration::from_secs(asked);
            let silence = attentive(rabbit.clone()).heartbeat_timeout_threshold;
            assert_eq!(silence, Duration::from_secs(expected));
        }
    }
}
