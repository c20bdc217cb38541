//! Signs of life: which tasks of the daemon run, what each is doing, and that none is stuck.
//!
//! **Goal.** Whoever watches over the daemon (systemd, an operator) learns how it stands with the
//! broker, and is told that all is well only while it is true.
//!
//! **The rule.** Each loop registers a *task* for as long as it runs, and gives a *heartbeat* each time it
//! comes round. An idle loop wakes up every two seconds to give one, from the place where it waits for
//! work. No task gives a heartbeat for another. A task that is silent for longer than the patience is
//! stuck: its thread is blocked, or it waits for an answer that is overdue. One wait may be longer: for a
//! broker that has said that it is short of memory or disk.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use strum::{IntoStaticStr, VariantArray};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::ticker;

/// How often an idle loop gives a heartbeat.
const BEAT: Duration = Duration::from_secs(2);

/// A task is never called stuck for less than this: connecting alone may take as long.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(10);

/// Patience where heartbeats are off: thrice their default.
const PATIENCE_WITHOUT_HEARTBEATS: Duration = Duration::from_secs(180);

/// The patience in heartbeat times. Heartbeats end a connection to a silent broker after two, so an answer that
/// is missing after three will not come.
const HEARTBEATS: u32 = 3;

/// Which task of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Keeps the connection on which messages come in.
    Intake,
    /// Keeps the connection on which replies go out.
    Replies,
    /// Keeps the connection on which the own topics are served.
    OwnTopics,
    /// Waits for other daemons: on the node at the start, and on each new connection before it serves.
    Entry,
    /// Sends replies.
    ReplyPublisher,
    /// Serves this server queue.
    Queue(String),
    /// Serves this topic of our own.
    OwnTopic(String),
}

/// Why a backend's queue is not consumed for a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Reason {
    /// A queue is missing.
    Missing,
    /// Nobody consumes the topic queue.
    Unattended,
    /// Nobody but us consumes the server queue.
    Alone,
    /// Messages have come back to the server queue too often.
    Repeated,
    /// The user may not publish.
    Forbidden,
    /// A consumer of the topic queue has left.
    Leaving,
    /// Messages pile up on the topic queue.
    Backlog,
    /// The broker takes its time to answer.
    Slow,
    /// The topic queue vanished while it was handed over to.
    Vanished,
    /// The topic queue refused messages.
    Refused,
    /// A message asks for copies.
    Copies,
    /// The broker cancelled our consumer.
    Cancelled,
    /// The channel failed.
    Channel,
    /// The connection did.
    Connection,
}

impl Reason {
    /// Its name, one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// What a task is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskState {
    /// Registered, nothing to report yet.
    Starting,
    /// Connecting to this broker.
    Connecting(String),
    /// Connected to this broker.
    Connected(String),
    /// Waiting to connect to this broker again; the broker, and why it is not connected.
    Disconnected(String, String),
    /// Waiting for another daemon or consumer; which.
    Occupied(String),
    /// Serving its queue.
    Serving,
    /// cinder-volume has not declared the queues yet; the cause.
    Waiting(String),
    /// Not consuming for a moment, so that cinder-volume gets all messages; the kind of cause, and the cause.
    Aside(Reason, String),
    /// The broker's user lacks a permission that serving takes; the cause.
    Refused(String),
}

/// All tasks that run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Liveness(Arc<LivenessInner>);

#[derive(Debug)]
struct LivenessInner {
    patience: Duration,
    next: AtomicU64,
    tasks: watch::Sender<BTreeMap<u64, Entry>>,
}

/// One task, as the watcher sees it.
#[derive(Debug)]
struct Entry {
    role: Role,
    doing: TaskState,
    pulse: Arc<Pulse>,
}

#[derive(Debug)]
struct Pulse {
    last: Mutex<Instant>,
    /// While this is set the task waits for a broker that is short of memory or disk.
    broker_blocked: Option<Arc<AtomicBool>>,
}

impl Pulse {
    fn last(&self) -> MutexGuard<'_, Instant> {
        self.last.lock()
    }

    fn heartbeat(&self) {
        *self.last() = Instant::now();
    }

    fn is_broker_blocked(&self) -> bool {
        let broker_blocked = self.broker_blocked.as_ref();
        broker_blocked.is_some_and(|broker_blocked| broker_blocked.load(Ordering::Relaxed))
    }
}

/// A task that is silent for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Which.
    pub role: Role,
    /// For how long.
    pub silence: Duration,
}

impl Liveness {
    /// Without tasks. `patience` is how long a task may be silent.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self(Arc::new(LivenessInner {
            patience,
            next: AtomicU64::new(0),
            tasks: watch::Sender::default(),
        }))
    }

    /// With as much patience as a connection with a heartbeat in such a time takes to notice its own end; zero is
    /// without heartbeats.
    #[must_use]
    pub fn of(heartbeat: Duration) -> Self {
        Self::new(match heartbeat {
            Duration::ZERO => PATIENCE_WITHOUT_HEARTBEATS,
            heartbeat => (heartbeat * HEARTBEATS).max(SHORTEST_PATIENCE),
        })
    }

    /// Registers a task. `broker_blocked`, where given, is set while the task's broker is short of memory
    /// or disk.
    #[must_use]
    pub fn task(&self, role: Role, broker_blocked: Option<Arc<AtomicBool>>) -> TaskHandle {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let pulse = Arc::new(Pulse {
            last: Mutex::new(Instant::now()),
            broker_blocked,
        });
        let entry = Entry {
            role,
            doing: TaskState::Starting,
            pulse: Arc::clone(&pulse),
        };
        self.0.tasks.send_modify(|tasks| {
            tasks.insert(id, entry);
        });
        TaskHandle {
            liveness: self.clone(),
            id,
            pulse,
        }
    }

    /// The first task that is stuck, if any is.
    #[must_use]
    pub fn stuck(&self) -> Option<Stuck> {
        self.0.tasks.borrow().values().find_map(|entry| {
            if entry.pulse.is_broker_blocked() {
                // The task's silence counts anew when the broker goes on.
                entry.pulse.heartbeat();
            }
            let silence = entry.pulse.last().elapsed();
            (silence > self.0.patience).then(|| Stuck {
                role: entry.role.clone(),
                silence,
            })
        })
    }

    /// Whether the task that keeps a connection is connected now.
    #[must_use]
    pub fn is_connected(&self, keeper: &Role) -> bool {
        self.doing(keeper)
            .is_some_and(|doing| matches!(doing, TaskState::Connected(_)))
    }

    /// What a task is doing; `None` if it is not registered.
    #[must_use]
    pub fn doing(&self, role: &Role) -> Option<TaskState> {
        let tasks = self.0.tasks.borrow();
        let mut tasks = tasks.values();
        tasks
            .find(|entry| entry.role == *role)
            .map(|entry| entry.doing.clone())
    }

    /// Whether any task of which `is_one` is true waits for a broker that is short of memory or disk.
    #[must_use]
    pub fn blocked(&self, is_one: impl Fn(&Role) -> bool) -> bool {
        let tasks = self.0.tasks.borrow();
        let mut tasks = tasks.values();
        tasks.any(|entry| is_one(&entry.role) && entry.pulse.is_broker_blocked())
    }

    /// Tells a watcher of each change.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes(self.0.tasks.subscribe())
    }

    /// How the daemon stands with the broker, in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        if let Some(TaskState::Occupied(by)) = self.doing(&Role::Entry) {
            return format!("waiting: {by}");
        }
        // In mode direct there is no intake.
        let keeper = self
            .doing(&Role::Intake)
            .or_else(|| self.doing(&Role::OwnTopics));
        let mut line = match keeper {
            None | Some(TaskState::Starting) => "starting".to_owned(),
            Some(TaskState::Connecting(broker)) => format!("connecting to {broker}"),
            Some(TaskState::Disconnected(broker, cause)) => {
                format!("no connection to {broker}: {cause}")
            }
            Some(TaskState::Connected(broker)) => self.summary_of_queues(&broker),
            // A keeper of a connection does nothing else.
            Some(
                TaskState::Serving
                | TaskState::Occupied(_)
                | TaskState::Waiting(_)
                | TaskState::Aside(..)
                | TaskState::Refused(_),
            ) => String::new(),
        };
        if let Some(TaskState::Disconnected(broker, cause)) = self.doing(&Role::Replies) {
            // Writing into a text does not fail.
            let _ = write!(
                line,
                "; answers cannot leave: no connection to {broker}: {cause}"
            );
        }
        line
    }

    fn summary_of_queues(&self, broker: &str) -> String {
        let tasks = self.0.tasks.borrow();
        let direct = tasks.values().all(|entry| entry.role != Role::Intake);
        let queues = tasks.values().filter(|entry| match entry.role {
            Role::Queue(_) => true,
            Role::OwnTopic(_) => direct,
            _ => false,
        });
        let (mut all, mut serving, mut trouble) = (0, 0, None);
        for queue in queues {
            all += 1;
            match &queue.doing {
                TaskState::Serving => serving += 1,
                TaskState::Waiting(cause) => {
                    trouble = Some(format!("waiting for cinder-volume's queues: {cause}"));
                }
                TaskState::Aside(_, cause) => trouble = Some(format!("standing aside: {cause}")),
                TaskState::Refused(cause) => {
                    trouble = Some(format!("the own topic is not served: {cause}"))
                }
                _ => {}
            }
        }
        match (serving, trouble) {
            (0, None) => format!("connected to {broker}"),
            (0, Some(trouble)) => trouble,
            (1, None) if all == 1 => format!("serving 1 backend by way of {broker}"),
            (_, None) if serving == all => format!("serving {all} backends by way of {broker}"),
            (_, None) => format!("serving {serving} of {all} backends by way of {broker}"),
            (_, Some(trouble)) => {
                format!("serving {serving} of {all} backends by way of {broker}; {trouble}")
            }
        }
    }
}

/// Tells when something has changed.
#[derive(Debug)]
pub struct Changes(watch::Receiver<BTreeMap<u64, Entry>>);

impl Changes {
    /// Returns when something has changed since the last time. Cancel-safe.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody is left to change anything.
            std::future::pending::<()>().await;
        }
    }
}

/// A registered task, until this is dropped.
#[derive(Debug)]
pub struct TaskHandle {
    liveness: Liveness,
    id: u64,
    pulse: Arc<Pulse>,
}

impl TaskHandle {
    /// The loop has come round.
    pub fn heartbeat(&self) {
        self.pulse.heartbeat();
    }

    /// The loop has come round, and this is what the task does from now on.
    pub fn does(&self, now: TaskState) {
        self.heartbeat();
        self.liveness.0.tasks.send_if_modified(|tasks| {
            let Some(entry) = tasks.get_mut(&self.id) else {
                return false;
            };
            let changed = entry.doing != now;
            entry.doing = now;
            changed
        });
    }

    /// Gives a heartbeat, and returns a while later: an idle loop waits for this too, so that it
    /// comes round. Cancel-safe.
    pub async fn idle(&self) {
        self.heartbeat();
        ticker::tick(BEAT).await;
    }

    /// Gives heartbeats while `work` runs. They stop when this task is not polled, or when `work` blocks its
    /// thread.
    pub async fn beating<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.idle() => {}
            }
        }
    }
}

impl Drop for TaskHandle {
    fn drop(&mut self) {
        self.liveness.0.tasks.send_modify(|tasks| {
            tasks.remove(&self.id);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn serving(liveness: &Liveness, queue: &str, doing: TaskState) -> TaskHandle {
        let task = liveness.task(Role::Queue(queue.to_owned()), None);
        task.does(doing);
        task
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_part_is_stuck_and_a_finished_one_is_not() {
        let liveness = Liveness::new(PATIENCE);
        let task = liveness.task(Role::Entry, None);
        tokio::time::advance(PATIENCE).await;
        assert_eq!(liveness.stuck(), None);
        tokio::time::advance(BEAT).await;
        let stuck = Stuck {
            role: Role::Entry,
            silence: PATIENCE + BEAT,
        };
        assert_eq!(liveness.stuck(), Some(stuck));
        task.heartbeat();
        assert_eq!(liveness.stuck(), None);
        tokio::time::advance(PATIENCE * 2).await;
        drop(task);
        assert_eq!(liveness.stuck(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_stuck_part_is_not_covered_by_those_that_beat() {
        let liveness = Liveness::new(PATIENCE);
        let keeper = liveness.task(Role::Intake, None);
        // A session that never comes round, in a supervisor that does.
        let session = async {
            let _part = liveness.task(Role::Queue("q".to_owned()), None);
            std::future::pending::<()>().await;
        };
        let watched = tokio::time::timeout(PATIENCE * 2, keeper.beating(session));
        tokio::pin!(watched);
        let mut seen = None;
        while seen.is_none() {
            tokio::select! {
                _ = &mut watched => panic!("nothing was seen"),
                () = tokio::time::sleep(BEAT) => seen = liveness.stuck(),
            }
        }
        assert_eq!(seen.unwrap().role, Role::Queue("q".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_in_alarm_excuses_and_the_time_starts_afresh_after_it() {
        let liveness = Liveness::new(PATIENCE);
        let alarm = Arc::new(AtomicBool::new(true));
        let _part = liveness.task(Role::ReplyPublisher, Some(Arc::clone(&alarm)));
        tokio::time::advance(PATIENCE * 100).await;
        assert_eq!(liveness.stuck(), None);
        alarm.store(false, Ordering::Relaxed);
        tokio::time::advance(PATIENCE).await;
        assert_eq!(liveness.stuck(), None);
        tokio::time::advance(BEAT).await;
        assert!(liveness.stuck().is_some());
    }

    #[test]
    fn the_summary_says_how_it_stands() {
        let liveness = Liveness::new(PATIENCE);
        assert_eq!(liveness.summary(), "starting");
        let intake = liveness.task(Role::Intake, None);
        let broker = || "10.0.0.1:5672".to_owned();
        intake.does(TaskState::Connecting(broker()));
        assert_eq!(liveness.summary(), "connecting to 10.0.0.1:5672");
        intake.does(TaskState::Disconnected(broker(), "refused".to_owned()));
        assert_eq!(
            liveness.summary(),
            "no connection to 10.0.0.1:5672: refused"
        );
        intake.does(TaskState::Connected(broker()));
        assert_eq!(liveness.summary(), "connected to 10.0.0.1:5672");

        let first = serving(&liveness, "a", TaskState::Serving);
        assert_eq!(
            liveness.summary(),
            "serving 1 backend by way of 10.0.0.1:5672"
        );
        let second = serving(
            &liveness,
            "b",
            TaskState::Aside(Reason::Refused, "it is full".to_owned()),
        );
        assert_eq!(
            liveness.summary(),
            "serving 1 of 2 backends by way of 10.0.0.1:5672; standing aside: it is full"
        );
        second.does(TaskState::Serving);
        assert_eq!(
            liveness.summary(),
            "serving 2 backends by way of 10.0.0.1:5672"
        );
        drop(second);
        first.does(TaskState::Waiting("T is missing".to_owned()));
        assert_eq!(
            liveness.summary(),
            "waiting for cinder-volume's queues: T is missing"
        );

        let replies = liveness.task(Role::Replies, None);
        replies.does(TaskState::Disconnected(broker(), "refused".to_owned()));
        assert!(liveness.summary().ends_with(
            "is missing; answers cannot leave: no connection to 10.0.0.1:5672: refused"
        ));
    }

    #[test]
    fn without_an_intake_the_own_topics_are_told() {
        let liveness = Liveness::new(PATIENCE);
        let keeper = liveness.task(Role::OwnTopics, None);
        keeper.does(TaskState::Connected("10.0.0.1:5672".to_owned()));
        let topic = liveness.task(Role::OwnTopic("a".to_owned()), None);
        topic.does(TaskState::Serving);
        assert_eq!(
            liveness.summary(),
            "serving 1 backend by way of 10.0.0.1:5672"
        );
        topic.does(TaskState::Refused("ACCESS_REFUSED".to_owned()));
        assert_eq!(
            liveness.summary(),
            "the own topic is not served: ACCESS_REFUSED"
        );
    }
}
