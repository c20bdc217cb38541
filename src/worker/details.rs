//! What is told beside the percentage: how much, how fast, how long still, and whether the copy moves at all.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::policy::Policy;
use crate::progress::speed::{Speed, Speeds};
use crate::progress::{Answer, RunningCopy, Tracker};
use crate::text;
use crate::ticker;

/// How often the pace of the running copies is taken.
const SAMPLES: Duration = Duration::from_secs(2);

/// The paces of all copies that run. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Paces {
    tracker: Tracker,
    speeds: Arc<Mutex<Speeds>>,
}

impl Paces {
    /// Of the copies that `tracker` sees.
    #[must_use]
    pub fn new(tracker: Tracker) -> Self {
        Self {
            tracker,
            speeds: Arc::default(),
        }
    }

    /// Takes the paces for ever, so that one question is enough to learn of a copy that it does not move.
    pub async fn watch(self) {
        loop {
            ticker::tick(SAMPLES).await;
            self.note(&self.tracker.seen().running, Instant::now());
        }
    }

    fn note(&self, running: &[RunningCopy], at: Instant) -> Vec<Option<Speed>> {
        let mut speeds = self.speeds.lock().unwrap_or_else(PoisonError::into_inner);
        speeds.note(running, at, SystemTime::now())
    }

    /// The details of the volume of which `answer` was just found out, `percent` in the words of the policy.
    /// `bears` tells whether an id in the name of a copy's source is the volume's.
    ///
    /// All keys are always there; what is not known is null.
    #[must_use]
    pub(super) fn details(
        &self,
        policy: &Policy,
        answer: Answer,
        percent: String,
        bears: impl Fn(&str) -> bool,
    ) -> Value {
        let running = self.tracker.seen_with_ages().running;
        let at = Instant::now();
        let speeds = self.note(&running, at);
        let template = &policy.volume_name_template;
        let of_the_volume =
            |copy: &RunningCopy| copy.volume_id(template).is_some_and(|id| bears(&id));
        // The newest, as for the percentage.
        let copy = running
            .iter()
            .zip(speeds)
            .rfind(|(copy, _)| of_the_volume(copy));
        match copy {
            Some((copy, speed)) => of_a_copy(percent, copy, speed, at),
            None => without_a_copy(percent, state_without_a_copy(policy, answer)),
        }
    }
}

fn of_a_copy(percent: String, copy: &RunningCopy, speed: Option<Speed>, at: Instant) -> Value {
    json!({
        "percent": percent,
        "bytes": copy.position,
        "total_bytes": copy.total,
        "bytes_per_second": speed.and_then(|speed| speed.bytes_per_second()),
        "seconds_left": speed.and_then(|speed| speed.seconds_left(copy.total, at)),
        "state": speed.map_or_else(|| json!(UNKNOWN), |speed| json!(speed.state(copy.total, at))),
        "since": copy.since(),
        "kind": copy.method.name(),
        "source": text::harmless(&copy.source),
        "destination": text::harmless(&copy.destination),
    })
}

/// Where nobody can tell whether the copy moves.
const UNKNOWN: &str = "unknown";
/// Where the copy has run and does not any more.
const OVER: &str = "over";

/// Where no copy runs that is the volume's, something is known only of one that has run; and a driver's
/// command may know of one that nobody can see.
fn state_without_a_copy(policy: &Policy, answer: Answer) -> &'static str {
    match answer {
        Answer::Percent(100) => OVER,
        Answer::Percent(1..) if policy.driver.is_none() => OVER,
        Answer::Percent(_) | Answer::Unknown => UNKNOWN,
    }
}

fn without_a_copy(percent: String, state: &str) -> Value {
    json!({
        "percent": percent,
        "bytes": null,
        "total_bytes": null,
        "bytes_per_second": null,
        "seconds_left": null,
        "state": state,
        "since": null,
        "kind": null,
        "source": null,
        "destination": null,
    })
}
