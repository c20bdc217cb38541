//! Counts the progress calls by outcome.

use prometheus::{Histogram, IntCounter};
use strum::{IntoStaticStr, VariantArray};

use crate::counters::{counters, histogram};
use crate::progress::{ProgressError, Trouble};

/// The outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum CallOutcome {
    /// The reply was a percentage.
    Answered,
    /// The reply was `unknown_progress`.
    Unknown,
    /// The reply was the failure `InvalidVolume`.
    InvalidVolume,
    /// The reply was the failure `NoSuchMethod`.
    NoSuchMethod,
    /// The reply was the failure `UnsupportedVersion`.
    UnsupportedVersion,
    /// The message was no well-formed call.
    Malformed,
    /// The kernel refused a read, because the daemon lacks a permission.
    Denied,
    /// Reads hung.
    TimedOut,
    /// Reading the processes failed for another reason.
    Failed,
    /// Too many calls were being answered at the same time.
    Overloaded,
    /// The same call was delivered before.
    Duplicate,
    /// The message had no reply queue, so it got no reply.
    Cast,
    /// The message was a ping.
    Ping,
    /// The call was handed over to cinder-volume, because the broker took no replies.
    Passed,
}

impl CallOutcome {
    /// Its name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The outcome of a call that was refused with a failure of this class.
    #[must_use]
    pub fn refused(class: &str) -> Self {
        match class {
            "InvalidVolume" => Self::InvalidVolume,
            "NoSuchMethod" => Self::NoSuchMethod,
            "UnsupportedVersion" => Self::UnsupportedVersion,
            _ => Self::Malformed,
        }
    }
}

impl From<&ProgressError> for CallOutcome {
    fn from(error: &ProgressError) -> Self {
        match error.kind() {
            Trouble::Denied => Self::Denied,
            Trouble::Slow => Self::TimedOut,
            Trouble::Odd => Self::Failed,
        }
    }
}

/// The counters of the calls of all backends.
#[derive(Debug)]
pub struct Calls {
    /// In the order of [`CallOutcome::VARIANTS`].
    pub outcomes: [IntCounter; CallOutcome::VARIANTS.len()],
    /// How long it took to find the answer to a progress call, whether a percentage or a failure.
    pub durations: Histogram,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            outcomes: counters(
                "cinder_progress_calls_total",
                "Calls that were the daemon's to answer, by what became of them.",
                "outcome",
                |at| CallOutcome::VARIANTS[at].name(),
            ),
            durations: histogram(
                "cinder_progress_answer_duration_seconds",
                "How long it took to find the answer to a progress call, good or bad.",
            ),
        }
    }
}

impl Calls {
    /// Counts a call with this outcome.
    pub fn note(&self, outcome: CallOutcome) {
        self.outcomes[outcome as usize].inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_each_class_has_its_outcome() {
        for (class, outcome) in [
            ("InvalidVolume", CallOutcome::InvalidVolume),
            ("NoSuchMethod", CallOutcome::NoSuchMethod),
            ("UnsupportedVersion", CallOutcome::UnsupportedVersion),
            ("RPCDispatcherError", CallOutcome::Malformed),
        ] {
            assert_eq!(CallOutcome::refused(class), outcome, "{class}");
        }
    }

    #[test]
    fn an_error_of_each_kind_has_the_outcome_of_that_name() {
        let path = || "/proc/7".into();
        for error in [
            ProgressError::Hidden { path: path() },
            ProgressError::Busy {
                path: path(),
                hanging: 8,
            },
            ProgressError::Malformed {
                path: path(),
                item: "pos",
                wanted: "a number",
            },
        ] {
            let outcome = CallOutcome::from(&error);
            assert_eq!(outcome.name(), error.kind().name(), "{error}");
        }
    }

    #[test]
    fn each_outcome_has_a_counter_of_its_own() {
        let calls = Calls::default();
        for &outcome in CallOutcome::VARIANTS {
            calls.note(outcome);
        }
        calls.note(CallOutcome::Passed);
        for &outcome in CallOutcome::VARIANTS {
            let expected = if outcome == CallOutcome::Passed { 2 } else { 1 };
            assert_eq!(
                calls.outcomes[outcome as usize].get(),
                expected,
                "{outcome:?}"
            );
        }
    }
}
