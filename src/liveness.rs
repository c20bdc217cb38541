//! Signs of life: which parts of the daemon are at work, what each is doing, and that none is stuck.
//!
//! **Goal.** Whoever watches over the daemon (systemd, an operator) learns how it stands with the
//! broker, and is told that all is well only while it is true.
//!
//! **The rule.** Each loop registers a *part* for as long as it runs and *beats* each time it
//! comes round; an idle loop wakes up every two seconds to beat from the very place where it waits
//! for work. Nothing beats on another's behalf. A part that has been silent for longer than the
//! patience is stuck: its thread is blocked, or it waits for an answer that should long have come.
//! The one wait that may be longer is for a broker that has said it is short of memory or disk.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::amqp::metrics::Reason;
use crate::config::Rabbit;
use crate::ticker;

/// How often an idle loop beats.
const BEAT: Duration = Duration::from_secs(2);

/// A part is never called stuck for less than this: connecting alone may take as long.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(10);

/// Patience where heartbeats are off: thrice their default.
const PATIENCE_WITHOUT_HEARTBEATS: Duration = Duration::from_secs(180);

/// After how many heartbeat times an answer that has not come will not come: a connection whose
/// broker is silent has been ended by its heartbeats after two.
const HEARTBEATS: u32 = 3;

/// Which part of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Keeps the connection on which messages come in.
    Intake,
    /// Keeps the connection on which replies go out.
    Replies,
    /// Keeps the connection on which the own topics are served.
    OwnTopics,
    /// Looks around on a new connection before it serves.
    Entry,
    /// Sends replies.
    Outbox,
    /// Serves this server queue.
    Queue(String),
    /// Serves this topic of our own.
    OwnTopic(String),
}

/// What a part is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doing {
    /// Nothing that anybody need know.
    Starting,
    /// Connecting to this broker.
    Connecting(String),
    /// Connected to this broker.
    Connected(String),
    /// Between two tries; the broker and why it is not connected to it.
    Disconnected(String, String),
    /// Somebody else is where it would be; who.
    Occupied(String),
    /// Serving its queue.
    Serving,
    /// cinder-volume has not declared the queues yet; the cause.
    Waiting(String),
    /// cinder-volume has all to itself for a moment; the kind of cause, and the cause.
    Aside(Reason, String),
    /// The broker's user may not do what serving takes; the cause.
    Refused(String),
}

/// All parts that are at work. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Vitals(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    patience: Duration,
    next: AtomicU64,
    parts: watch::Sender<BTreeMap<u64, Entry>>,
}

/// One part at work, as the watcher sees it.
#[derive(Debug)]
struct Entry {
    role: Role,
    doing: Doing,
    pulse: Arc<Pulse>,
}

#[derive(Debug)]
struct Pulse {
    last: Mutex<Instant>,
    /// While this is set the part waits for a broker that cannot.
    excused: Option<Arc<AtomicBool>>,
}

impl Pulse {
    fn last(&self) -> MutexGuard<'_, Instant> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn beat(&self) {
        *self.last() = Instant::now();
    }

    fn is_excused(&self) -> bool {
        let excused = self.excused.as_ref();
        excused.is_some_and(|excused| excused.load(Ordering::Relaxed))
    }
}

/// A part that is silent for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Which.
    pub role: Role,
    /// For how long.
    pub silence: Duration,
}

impl Vitals {
    /// With no part yet. `patience` is how long one may be silent.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self(Arc::new(Shared {
            patience,
            next: AtomicU64::new(0),
            parts: watch::Sender::default(),
        }))
    }

    /// With as much patience as a connection with these heartbeats takes to notice its own end.
    #[must_use]
    pub fn of(rabbit: &Rabbit) -> Self {
        Self::new(match rabbit.heartbeat_timeout_threshold {
            Duration::ZERO => PATIENCE_WITHOUT_HEARTBEATS,
            heartbeat => (heartbeat * HEARTBEATS).max(SHORTEST_PATIENCE),
        })
    }

    /// A part begins its work. `excused`, where there is one, is set while its broker lets
    /// everybody wait.
    #[must_use]
    pub fn part(&self, role: Role, excused: Option<Arc<AtomicBool>>) -> Part {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let pulse = Arc::new(Pulse {
            last: Mutex::new(Instant::now()),
            excused,
        });
        let entry = Entry {
            role,
            doing: Doing::Starting,
            pulse: Arc::clone(&pulse),
        };
        self.0.parts.send_modify(|parts| {
            parts.insert(id, entry);
        });
        Part {
            vitals: self.clone(),
            id,
            pulse,
        }
    }

    /// The first part that is stuck, if any is.
    #[must_use]
    pub fn stuck(&self) -> Option<Stuck> {
        self.0.parts.borrow().values().find_map(|entry| {
            if entry.pulse.is_excused() {
                // Its time starts afresh when the broker goes on.
                entry.pulse.beat();
            }
            let silence = entry.pulse.last().elapsed();
            (silence > self.0.patience).then(|| Stuck {
                role: entry.role.clone(),
                silence,
            })
        })
    }

    /// Whether the part that keeps a connection has it now.
    #[must_use]
    pub fn is_connected(&self, keeper: &Role) -> bool {
        self.doing(keeper)
            .is_some_and(|doing| matches!(doing, Doing::Connected(_)))
    }

    /// What a part is doing, if it is at work.
    #[must_use]
    pub fn doing(&self, role: &Role) -> Option<Doing> {
        let parts = self.0.parts.borrow();
        let mut parts = parts.values();
        parts
            .find(|entry| entry.role == *role)
            .map(|entry| entry.doing.clone())
    }

    /// Whether any part of which `is_one` is true waits for a broker that is short of memory or disk.
    #[must_use]
    pub fn blocked(&self, is_one: impl Fn(&Role) -> bool) -> bool {
        let parts = self.0.parts.borrow();
        let mut parts = parts.values();
        parts.any(|entry| is_one(&entry.role) && entry.pulse.is_excused())
    }

    /// For one who wants to know of each change.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes(self.0.parts.subscribe())
    }

    /// How the daemon stands with the broker, in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        // In mode direct there is no intake.
        let keeper = self
            .doing(&Role::Intake)
            .or_else(|| self.doing(&Role::OwnTopics));
        let mut line = match keeper {
            None | Some(Doing::Starting) => "starting".to_owned(),
            Some(Doing::Connecting(broker)) => format!("connecting to {broker}"),
            Some(Doing::Disconnected(broker, cause)) => {
                format!("no connection to {broker}: {cause}")
            }
            Some(Doing::Connected(broker)) => self.summary_of_queues(&broker),
            Some(Doing::Occupied(by)) => format!("waiting: {by}"),
            // A keeper of a connection does nothing else.
            Some(Doing::Serving | Doing::Waiting(_) | Doing::Aside(..) | Doing::Refused(_)) => {
                String::new()
            }
        };
        if let Some(Doing::Disconnected(broker, cause)) = self.doing(&Role::Replies) {
            // Writing into a text does not fail.
            let _ = write!(
                line,
                "; answers cannot leave: no connection to {broker}: {cause}"
            );
        }
        line
    }

    fn summary_of_queues(&self, broker: &str) -> String {
        if let Some(Doing::Occupied(by)) = self.doing(&Role::Entry) {
            return format!("waiting: {by}");
        }
        let parts = self.0.parts.borrow();
        let direct = parts.values().all(|entry| entry.role != Role::Intake);
        let queues = parts.values().filter(|entry| match entry.role {
            Role::Queue(_) => true,
            Role::OwnTopic(_) => direct,
            _ => false,
        });
        let (mut all, mut serving, mut trouble) = (0, 0, None);
        for queue in queues {
            all += 1;
            match &queue.doing {
                Doing::Serving => serving += 1,
                Doing::Waiting(cause) => {
                    trouble = Some(format!("waiting for cinder-volume's queues: {cause}"));
                }
                Doing::Aside(_, cause) => trouble = Some(format!("standing aside: {cause}")),
                Doing::Refused(cause) => {
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

/// A part at work; it is not when this is dropped.
#[derive(Debug)]
pub struct Part {
    vitals: Vitals,
    id: u64,
    pulse: Arc<Pulse>,
}

impl Part {
    /// It has come round.
    pub fn beat(&self) {
        self.pulse.beat();
    }

    /// It has come round, and this is what it does from now on.
    pub fn does(&self, now: Doing) {
        self.beat();
        self.vitals.0.parts.send_if_modified(|parts| {
            let Some(entry) = parts.get_mut(&self.id) else {
                return false;
            };
            let changed = entry.doing != now;
            entry.doing = now;
            changed
        });
    }

    /// Beats, and returns a while later: one more thing for an idle loop to wait for, so that it
    /// comes round. Cancel-safe.
    pub async fn idle(&self) {
        self.beat();
        ticker::tick(BEAT).await;
    }

    /// Works on `work` and beats meanwhile, for as long as the task that does so is run and
    /// `work` gives its thread back.
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

impl Drop for Part {
    fn drop(&mut self) {
        self.vitals.0.parts.send_modify(|parts| {
            parts.remove(&self.id);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn serving(vitals: &Vitals, queue: &str, doing: Doing) -> Part {
        let part = vitals.part(Role::Queue(queue.to_owned()), None);
        part.does(doing);
        part
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_part_is_stuck_and_a_finished_one_is_not() {
        let vitals = Vitals::new(PATIENCE);
        let part = vitals.part(Role::Entry, None);
        tokio::time::advance(PATIENCE).await;
        assert_eq!(vitals.stuck(), None);
        tokio::time::advance(BEAT).await;
        let stuck = Stuck {
            role: Role::Entry,
            silence: PATIENCE + BEAT,
        };
        assert_eq!(vitals.stuck(), Some(stuck));
        part.beat();
        assert_eq!(vitals.stuck(), None);
        tokio::time::advance(PATIENCE * 2).await;
        drop(part);
        assert_eq!(vitals.stuck(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_stuck_part_is_not_covered_by_those_that_beat() {
        let vitals = Vitals::new(PATIENCE);
        let keeper = vitals.part(Role::Intake, None);
        // A session that never comes round, in a supervisor that does.
        let session = async {
            let _part = vitals.part(Role::Queue("q".to_owned()), None);
            std::future::pending::<()>().await;
        };
        let watched = tokio::time::timeout(PATIENCE * 2, keeper.beating(session));
        tokio::pin!(watched);
        let mut seen = None;
        while seen.is_none() {
            tokio::select! {
                _ = &mut watched => panic!("nothing was seen"),
                () = tokio::time::sleep(BEAT) => seen = vitals.stuck(),
            }
        }
        assert_eq!(seen.unwrap().role, Role::Queue("q".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_in_alarm_excuses_and_the_time_starts_afresh_after_it() {
        let vitals = Vitals::new(PATIENCE);
        let alarm = Arc::new(AtomicBool::new(true));
        let _part = vitals.part(Role::Outbox, Some(Arc::clone(&alarm)));
        tokio::time::advance(PATIENCE * 100).await;
        assert_eq!(vitals.stuck(), None);
        alarm.store(false, Ordering::Relaxed);
        tokio::time::advance(PATIENCE).await;
        assert_eq!(vitals.stuck(), None);
        tokio::time::advance(BEAT).await;
        assert!(vitals.stuck().is_some());
    }

    #[test]
    fn the_summary_says_how_it_stands() {
        let vitals = Vitals::new(PATIENCE);
        assert_eq!(vitals.summary(), "starting");
        let intake = vitals.part(Role::Intake, None);
        let broker = || "10.0.0.1:5672".to_owned();
        intake.does(Doing::Connecting(broker()));
        assert_eq!(vitals.summary(), "connecting to 10.0.0.1:5672");
        intake.does(Doing::Disconnected(broker(), "refused".to_owned()));
        assert_eq!(vitals.summary(), "no connection to 10.0.0.1:5672: refused");
        intake.does(Doing::Connected(broker()));
        assert_eq!(vitals.summary(), "connected to 10.0.0.1:5672");

        let first = serving(&vitals, "a", Doing::Serving);
        assert_eq!(
            vitals.summary(),
            "serving 1 backend by way of 10.0.0.1:5672"
        );
        let second = serving(
            &vitals,
            "b",
            Doing::Aside(Reason::Refused, "it is full".to_owned()),
        );
        assert_eq!(
            vitals.summary(),
            "serving 1 of 2 backends by way of 10.0.0.1:5672; standing aside: it is full"
        );
        second.does(Doing::Serving);
        assert_eq!(
            vitals.summary(),
            "serving 2 backends by way of 10.0.0.1:5672"
        );
        drop(second);
        first.does(Doing::Waiting("T is missing".to_owned()));
        assert_eq!(
            vitals.summary(),
            "waiting for cinder-volume's queues: T is missing"
        );

        let replies = vitals.part(Role::Replies, None);
        replies.does(Doing::Disconnected(broker(), "refused".to_owned()));
        assert!(vitals.summary().ends_with(
            "is missing; answers cannot leave: no connection to 10.0.0.1:5672: refused"
        ));
    }

    #[test]
    fn without_an_intake_the_own_topics_are_told() {
        let vitals = Vitals::new(PATIENCE);
        let keeper = vitals.part(Role::OwnTopics, None);
        keeper.does(Doing::Connected("10.0.0.1:5672".to_owned()));
        let topic = vitals.part(Role::OwnTopic("a".to_owned()), None);
        topic.does(Doing::Serving);
        assert_eq!(
            vitals.summary(),
            "serving 1 backend by way of 10.0.0.1:5672"
        );
        topic.does(Doing::Refused("ACCESS_REFUSED".to_owned()));
        assert_eq!(
            vitals.summary(),
            "the own topic is not served: ACCESS_REFUSED"
        );
    }
}
