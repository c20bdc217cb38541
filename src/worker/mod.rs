//! The one place where broker, wire and progress meet: delivery → request → answer → reply.
//!
//! [`Worker::take`] gets each message. It decides at once and never waits, because operations for cinder-volume may be
//! behind the message. Reading `/proc` and sending the reply happen on a task of its own for each call. All backends
//! together have at most a thousand such tasks.
//!
//! [`Worker::take`]: crate::worker::Worker::take

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::amqp::message::{Disposition, Message};
use crate::amqp::metrics::Counters;
use crate::amqp::replies::{OutgoingReply, ReplySender};
use crate::config::{Driver, MigrationMode, Mode};
use crate::progress::{self, Answer, DriverCall, Hardware, MigrationRequest, Question, Tracker};
use crate::rpc::dispatcher::{Dispatch, PONG, ProgressCall, dispatch};
use crate::rpc::duplicates::Duplicates;
use crate::rpc::envelope::EnvelopeError;
use crate::rpc::failure::Failure;
use crate::rpc::request::{ReplyTo, Request, RequestFields};
use crate::rpc::volume::Volume;
use crate::rpc::{envelope, may_be_migration_request, may_be_progress_call, migrating, reply};

/// The details beside the percentage.
pub mod details;
/// Counts the progress calls by outcome.
pub mod outcomes;
/// The rules by which calls are answered.
pub mod policy;

use details::Paces;
use outcomes::{CallOutcome, Calls};
use policy::{LivePolicy, Policy};

/// Calls that are answered at the same time, at most. One more gets a failure at once.
const CALLS: usize = 1024;

/// Requests for migrations that are read at the same time, at most.
const REQUESTS: usize = 16;

/// The largest body of a request for a migration that is read, in bytes. Such a request carries the whole volume. It is
/// not decoded in the loop that hands operations over.
const REQUEST_SIZE: usize = 1024 * 1024;

/// The largest body of a progress call that is read beside a cinder-volume, in bytes, compressed or not. A progress
/// call has a few KiB. The loop that hands operations over decodes the body, and operations wait for that.
const LOOKED_INTO: usize = 64 * 1024;

/// The largest body that is read without a cinder-volume, in bytes. RabbitMQ's own limit is higher, but no call of
/// cinder's is nearly as large.
const READ: usize = 32 * 1024 * 1024;

/// Answers the calls of one backend. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Worker(Arc<WorkerInner>);

#[derive(Debug)]
struct WorkerInner {
    policy: LivePolicy,
    context: WorkerContext,
    answered: Mutex<Duplicates>,
    /// Limits the requests for migrations that are read at the same time.
    requests: Arc<Semaphore>,
}

/// What the workers of all backends share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkerContext {
    /// The copies on this node.
    pub tracker: Tracker,
    /// The rates of the copies.
    pub paces: Paces,
    /// Sends the replies.
    pub replies: ReplySender,
    /// Counts calls by outcome.
    pub calls: Arc<Calls>,
    /// Counts replies.
    pub counters: Arc<Counters>,
    /// The tasks of the calls. The daemon waits for them when it stops.
    pub tasks: TaskTracker,
    /// Limits the calls that are answered at the same time: [`room`].
    pub room: Arc<Semaphore>,
}

/// A semaphore for the calls that are answered at the same time.
#[must_use]
pub fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(CALLS))
}

impl Worker {
    /// A worker that answers by `policy`.
    #[must_use]
    pub fn new(policy: LivePolicy, context: WorkerContext) -> Self {
        Self(Arc::new(WorkerInner {
            policy,
            context,
            answered: Mutex::default(),
            requests: Arc::new(Semaphore::new(REQUESTS)),
        }))
    }

    /// Decides what happens with a message, and starts to answer it. Never waits.
    ///
    /// Beside a cinder-volume only a progress call of a served version is taken, and only while the broker takes
    /// replies. Every other message, readable or not, is handed over, because cinder-volume answers it.
    ///
    /// Without a cinder-volume every message is taken, because no other service would answer. Replies then wait for
    /// their connection.
    pub fn take(&self, message: Message<'_>) -> Disposition {
        match self.0.policy.now().mode {
            Mode::Sidecar => {
                if self.take_if_ours(message).is_some() {
                    return Disposition::Taken;
                }
                self.remember(message);
                Disposition::HandOver
            }
            Mode::Direct | Mode::Standalone => {
                self.take_all(message);
                Disposition::Taken
            }
        }
    }

    /// Serves a progress call beside a cinder-volume. `None` if the message is none.
    fn take_if_ours(&self, message: Message<'_>) -> Option<()> {
        if message.body.len() > LOOKED_INTO {
            return None;
        }
        // The method's name is not visible in a compressed body. Such a body is decompressed, up to the limit.
        if message.compression.is_none() && !may_be_progress_call(message.body) {
            return None;
        }
        let text = envelope::open(message.body, message.compression, LOOKED_INTO).ok()?;
        let request = Request::from_message(RequestFields::read(&text).ok()?).ok()?;
        if !self.0.policy.now().api.serves(&request) {
            return None;
        }
        // cinder-volume's error reaches the caller at once. The daemon's answer would not.
        if request.reply_to.is_some() && self.0.context.replies.is_blocked() {
            self.0.context.calls.note(CallOutcome::Passed);
            warn!("handed a call over to cinder-volume: replies cannot be sent");
            return None;
        }
        self.serve(request);
        Some(())
    }

    /// Notes a request for a migration that is handed over. The body is copied here and read on another thread, so that
    /// the messages behind it do not wait. Of too many at the same time some are not noted.
    fn remember(&self, message: Message<'_>) {
        let body = message.body;
        if body.len() > REQUEST_SIZE
            || message.compression.is_none() && !may_be_migration_request(body)
        {
            return;
        }
        let Ok(permit) = Arc::clone(&self.0.requests).try_acquire_owned() else {
            debug!("too many requests for migrations at once: one is not noted");
            return;
        };
        let passed = Instant::now();
        let (body, compression) = (body.to_vec(), message.compression.map(str::to_owned));
        let worker = self.clone();
        self.0.context.tasks.spawn_blocking(move || {
            let template = &worker.0.policy.now().volume_name_template;
            if let Some(request) = migration_request(&body, compression.as_deref(), template) {
                let tracker = &worker.0.context.tracker;
                tracker.requested(request, passed.elapsed());
            }
            drop(permit);
        });
    }

    /// Takes a message without a cinder-volume: a message that is not served is refused as oslo.messaging refuses it.
    pub fn take_all(&self, message: Message<'_>) {
        self.read(message, READ);
    }

    /// Takes a message of the daemon's own topic, which only small calls use. Larger messages are dropped, because
    /// reading them would delay the hand-over of operations.
    pub fn take_own(&self, message: Message<'_>) {
        if message.body.len() > LOOKED_INTO {
            self.0.context.calls.note(CallOutcome::Malformed);
            warn!(
                bytes = message.body.len(),
                "dropped a message that is too large for a call"
            );
            return;
        }
        self.read(message, LOOKED_INTO);
    }

    fn read(&self, message: Message<'_>, most: usize) {
        // Without a readable body the reply queue is unknown.
        let malformed = |error: EnvelopeError| {
            self.0.context.calls.note(CallOutcome::Malformed);
            warn!(%error, "dropped a message that is no oslo.messaging message");
        };
        let text = match envelope::open(message.body, message.compression, most) {
            Ok(text) => text,
            Err(error) => return malformed(error),
        };
        let content = match RequestFields::read(&text) {
            Ok(content) => content,
            Err(error) => return malformed(error),
        };
        match Request::from_message(content) {
            Ok(request) => self.serve(request),
            Err(error) => {
                self.0.context.calls.note(CallOutcome::Malformed);
                warn!(%error, "refused a malformed request");
                if let Some(to) = &error.reply_to {
                    self.post(to, reply::failure(to, &error.failure()));
                }
            }
        }
    }

    fn serve(&self, request: Request<'_>) {
        {
            let mut answered = self.0.answered.lock();
            if !answered.is_new(request.unique_id.as_deref()) {
                self.0.context.calls.note(CallOutcome::Duplicate);
                info!("dropped a call that was delivered twice");
                return;
            }
        }
        match dispatch(&request, &self.0.policy.now().api) {
            Dispatch::Progress(call) => {
                self.start(*call, request.reply_to, request.monitor_interval)
            }
            Dispatch::Ping => {
                self.0.context.calls.note(CallOutcome::Ping);
                self.reply(request.reply_to.as_ref(), Ok(PONG.into()));
            }
            Dispatch::Refuse(failure) => {
                self.0
                    .context
                    .calls
                    .note(CallOutcome::refused(failure.class));
                info!(class = failure.class, reason = %failure.message, "refused a call");
                self.reply(request.reply_to.as_ref(), Err(&failure));
            }
        }
    }

    fn start(&self, call: ProgressCall, reply_to: Option<ReplyTo>, monitor: Option<Duration>) {
        // A cast expects no reply.
        let Some(to) = reply_to else {
            self.0.context.calls.note(CallOutcome::Cast);
            return;
        };
        match Arc::clone(&self.0.context.room).try_acquire_owned() {
            Ok(permit) => {
                let worker = self.clone();
                self.0
                    .context
                    .tasks
                    .spawn(worker.answer(call, to, monitor, permit));
            }
            Err(_) => {
                self.0.context.calls.note(CallOutcome::Overloaded);
                let failure = Failure::internal("too many progress calls at once; ask again later");
                self.reply(Some(&to), Err(&failure));
            }
        }
    }

    async fn answer(
        self,
        call: ProgressCall,
        to: ReplyTo,
        monitor: Option<Duration>,
        _permit: OwnedSemaphorePermit,
    ) {
        let since = Instant::now();
        let volume = call.volume.id.clone();
        let ids = call
            .details
            .then(|| (call.volume.id.clone(), call.volume.name_id.clone()));
        let policy = self.0.policy.now();
        let looking = self.0.context.tracker.answer(question(&policy, call));
        let answer = match monitor {
            Some(interval) => self.with_heartbeats(looking, &to, interval).await,
            None => looking.await,
        };
        let elapsed = since.elapsed();
        let calls = &self.0.context.calls;
        calls.durations.observe(elapsed.as_secs_f64());
        match answer {
            Ok(answer) => {
                let (outcome, text) = match answer {
                    Answer::Percent(percent) => (CallOutcome::Answered, percent.to_string()),
                    Answer::Unknown => (CallOutcome::Unknown, policy.unknown_progress.clone()),
                };
                calls.note(outcome);
                debug!(%volume, progress = %text, ?elapsed, "answered");
                let result = match ids {
                    None => text.into(),
                    Some((id, name_id)) => {
                        let bears = |copy: &str| copy == id || Some(copy) == name_id.as_deref();
                        self.0.context.paces.details(&policy, answer, text, bears)
                    }
                };
                self.reply(Some(&to), Ok(result));
            }
            Err(error) => {
                calls.note(CallOutcome::from(&error));
                warn!(%volume, error = %error.detail(), ?elapsed, "no answer");
                self.reply(Some(&to), Err(&Failure::internal(error.to_string())));
            }
        }
    }

    /// Sends heartbeats to a caller that asked for them (`call_monitor_timeout`), until `work` is done.
    async fn with_heartbeats<T>(
        &self,
        work: impl Future<Output = T>,
        to: &ReplyTo,
        interval: Duration,
    ) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(interval) => self.post(to, reply::heartbeat(to)),
            }
        }
    }

    fn reply(&self, to: Option<&ReplyTo>, result: Result<Value, &Failure>) {
        let Some(to) = to else { return };
        let body = match result {
            Ok(result) => reply::success(to, result),
            Err(failure) => reply::failure(to, failure),
        };
        self.post(to, body);
    }

    fn post(&self, to: &ReplyTo, body: Vec<u8>) {
        let reply = OutgoingReply {
            queue: to.queue.clone(),
            body,
        };
        if let Err(reply) = self.0.context.replies.send(reply) {
            self.0.context.counters.replies_dropped.inc();
            warn!(queue = %reply.queue, "too many replies wait for the broker: dropped one");
        }
    }
}

/// The question about the volume of `call`.
fn question(policy: &Policy, call: ProgressCall) -> Question {
    let mode = match &call.migration_mode {
        Some(named) => MigrationMode::named(named),
        None => policy.migration_mode.clone(),
    };
    let attached = call.volume.attached();
    let migrating = call.volume.migrating();
    let names = names(&call.volume, &policy.volume_name_template);
    let driver = policy
        .driver
        .as_ref()
        .map(|driver| driver_call(driver, &call.volume, &names));
    Question {
        names,
        ids: call.volume.ids(),
        updated_at: call.volume.updated_at,
        record: Hardware::of_record(call.volume.record.texts()),
        clustered: call.volume.clustered,
        without_device: policy.without_devices,
        completing: call.volume.completing(),
        driver,
        size: call.volume.bytes(),
        attached,
        migrating,
        volume_id: call.volume.id,
        host: call.volume.host,
        src_path: call.src_path.map(PathBuf::from),
        dest_path: call.dest_path.map(PathBuf::from),
        mode: match mode {
            MigrationMode::Auto => progress::CopyMode::Auto,
            MigrationMode::HostBased => progress::CopyMode::HostBased,
            MigrationMode::FileBased => progress::CopyMode::FileBased,
            MigrationMode::DriverBased => progress::CopyMode::DriverBased,
            MigrationMode::Other(_) => progress::CopyMode::Other,
        },
    }
}

/// The request for a migration in a body, if the body has one.
fn migration_request(
    body: &[u8],
    compression: Option<&str>,
    template: &str,
) -> Option<MigrationRequest> {
    let text = envelope::open(body, compression, REQUEST_SIZE).ok()?;
    let volume = migrating(&Request::from_message(RequestFields::read(&text).ok()?).ok()?)?;
    Some(MigrationRequest {
        ids: volume.ids(),
        size: volume.bytes(),
        record: Hardware::of_record(volume.record.texts()),
        attached: volume.attached(),
        volume_id: volume.id,
        volume_name_template: template.to_owned(),
    })
}

/// The driver's command. Its standard input is the volume, without secrets and with its likeliest name.
fn driver_call(driver: &Driver, volume: &Volume, names: &[String]) -> DriverCall {
    let mut volume = volume.clone();
    volume.name = volume.name.or_else(|| names.first().cloned());
    DriverCall {
        command: driver.command.clone(),
        timeout: driver.timeout,
        // Serializing cannot fail: the volume consists of texts and numbers.
        input: serde_json::to_vec(&volume).unwrap_or_default(),
    }
}

/// The names that the volume may have on this node, the likeliest first.
fn names(volume: &Volume, template: &str) -> Vec<String> {
    let mut names: Vec<String> = [volume.name_id.as_deref(), Some(&volume.id)]
        .into_iter()
        .flatten()
        .map(|id| template.replacen("%s", id, 1))
        .collect();
    if let Some(name) = &volume.name
        && !names.contains(name)
    {
        names.push(name.clone());
    }
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The body of a message that was captured from real peers.
    fn captured(name: &str) -> Vec<u8> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire");
        let text = std::fs::read(folder.join(name)).unwrap();
        let message: Value = serde_json::from_slice(&text).unwrap();
        message["body"].as_str().unwrap().as_bytes().to_vec()
    }

    #[test]
    fn requests_for_migrations_of_each_release_are_kept_in_mind_and_nothing_else() {
        for release in ["ocata", "latest"] {
            for (method, end) in [("migrate_volume", "13"), ("retype", "14")] {
                let body = captured(&format!("cast-{method}.{release}.json"));
                assert!(may_be_migration_request(&body));
                let body = String::from_utf8(body).unwrap();
                let body = body.replace("never", "on-demand").into_bytes();
                let request = migration_request(&body, None, "volume-%s").unwrap();
                let id = format!("b4d1c0de-0000-4000-8000-0000000000{end}");
                assert_eq!((&request.ids, &request.volume_id), (&vec![id.clone()], &id));
                assert_eq!((request.size, request.attached), (10 << 30, false));
            }
            let body = captured(&format!("call-get_migrate_volume_progress.{release}.json"));
            assert_eq!(migration_request(&body, None, "volume-%s"), None);
        }
        let retype = |policy: &str| {
            let message = json!({"method": "retype", "args": {
                "volume": {"id": "1", "size": 2}, "migration_policy": policy,
            }});
            migration_request(message.to_string().as_bytes(), None, "volume-%s").is_some()
        };
        assert!(retype("on-demand"));
        assert!(!retype("never"), "such a retype copies nothing");
    }

    #[test]
    fn a_driver_is_told_the_volume_and_none_of_its_secrets() {
        let message = json!({"method": "m", "args": {"volume": {"versioned_object.data": {
            "id": "1", "size": 2, "host": "h@b#p", "migration_status": "migrating",
            "provider_auth": "CHAP u HUSH", "encryption_key_id": "HUSH",
        }}}});
        let body = message.to_string();
        let text = envelope::open(body.as_bytes(), None, body.len()).unwrap();
        let request = Request::from_message(RequestFields::read(&text).unwrap()).unwrap();
        let volume = Volume::from_args(&request.args).unwrap();
        let driver = Driver {
            command: vec!["ask".to_owned()],
            timeout: Duration::from_secs(1),
        };
        let call = driver_call(&driver, &volume, &names(&volume, "volume-%s"));
        let told: Value = serde_json::from_slice(&call.input).unwrap();
        assert_eq!(
            told,
            json!({
                "id": "1", "name_id": null, "name": "volume-1", "size": 2, "host": "h@b#p",
                "status": null, "migration_status": "migrating", "attach_status": null,
                "has_attachments": false,
            })
        );
    }
}
