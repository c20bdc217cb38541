//! The details beside the percentage: bytes, rate, time left, and whether the copy moves.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};

use super::policy::Policy;
use crate::progress::speed::{Speed, Speeds};
use crate::progress::{Answer, RunningCopy, Tracker};
use crate::text;
use crate::ticker;

/// How often the positions of the running copies are sampled.
const SAMPLES: Duration = Duration::from_secs(2);

/// The paces of all copies that run. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Paces {
    tracker: Tracker,
    speeds: Arc<Mutex<Speeds>>,
}

impl Paces {
    /// The paces of the copies in `tracker`.
    #[must_use]
    pub fn new(tracker: Tracker) -> Self {
        Self {
            tracker,
            speeds: Arc::default(),
        }
    }

    /// Samples the positions for ever, so that the answer to a first question already shows whether the copy moves.
    pub async fn watch(self) {
        loop {
            ticker::tick(SAMPLES).await;
            self.note(&self.tracker.seen().running, Instant::now());
        }
    }

    fn note(&self, running: &[RunningCopy], at: Instant) -> Vec<Option<Speed>> {
        let mut speeds = self.speeds.lock();
        speeds.note(running, at, SystemTime::now())
    }

    /// The details of the volume to which `answer` belongs. `percent` is the answer as the policy writes it. `bears`
    /// returns whether an id in the name of a copy's source is the volume's.
    ///
    /// All keys are always present. An unknown value is null.
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
        json!(match copy {
            Some((copy, speed)) => of_a_copy(percent, copy, speed, at),
            None => Details {
                percent,
                state: state_without_a_copy(policy.driver.is_some(), answer).into(),
                ..Details::default()
            },
        })
    }
}

/// The details as JSON. A value that is `None` is null.
#[derive(Debug, Default, Serialize)]
struct Details {
    percent: String,
    bytes: Option<u64>,
    total_bytes: Option<u64>,
    bytes_per_second: Option<u64>,
    seconds_left: Option<u64>,
    state: Value,
    since: Option<String>,
    kind: Option<&'static str>,
    source: Option<String>,
    destination: Option<String>,
}

fn of_a_copy(percent: String, copy: &RunningCopy, speed: Option<Speed>, at: Instant) -> Details {
    Details {
        percent,
        bytes: copy.position,
        total_bytes: copy.total,
        bytes_per_second: speed.and_then(|speed| speed.bytes_per_second()),
        seconds_left: speed.and_then(|speed| speed.seconds_left(copy.total, at)),
        state: speed.map_or_else(
            || json!(UNKNOWN),
            |speed| json!(speed.state(copy.total, at)),
        ),
        since: copy.since(),
        kind: Some(copy.method.name()),
        source: Some(text::harmless(&copy.source)),
        destination: Some(text::harmless(&copy.destination)),
    }
}

/// The state when it is unknown whether the copy moves.
const UNKNOWN: &str = "unknown";
/// The state when the copy has ended.
const OVER: &str = "over";

/// The state without a running copy of the volume. A percentage above 0 is that of a copy that has ended, unless it may
/// come from a driver's command, which reports copies that the node does not see.
fn state_without_a_copy(has_driver: bool, answer: Answer) -> &'static str {
    match answer {
        Answer::Percent(100) => OVER,
        Answer::Percent(1..) if !has_driver => OVER,
        Answer::Percent(_) | Answer::Unknown => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_copy_a_percentage_is_that_of_one_that_has_ended_unless_a_driver_reports_it() {
        for (answer, without, with_driver) in [
            (Answer::Unknown, UNKNOWN, UNKNOWN),
            (Answer::Percent(0), UNKNOWN, UNKNOWN),
            (Answer::Percent(1), OVER, UNKNOWN),
            (Answer::Percent(99), OVER, UNKNOWN),
            (Answer::Percent(100), OVER, OVER),
        ] {
            assert_eq!(state_without_a_copy(false, answer), without, "{answer:?}");
            let state = state_without_a_copy(true, answer);
            assert_eq!(state, with_driver, "{answer:?}");
        }
    }

    #[test]
    fn every_key_is_present_though_its_value_is_unknown() {
        let details = json!(Details::default());
        let keys = details.as_object().unwrap().keys();
        let expected = "bytes bytes_per_second destination kind percent seconds_left since source state total_bytes";
        assert_eq!(Vec::from_iter(keys).len(), 10);
        for key in expected.split(' ') {
            assert!(details.get(key).is_some(), "{key}");
        }
    }
}
