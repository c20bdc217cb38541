//! Counts the progress calls by outcome.

use strum::{IntoStaticStr, VariantArray};

use crate::counters::{Counter, Timings};
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
#[derive(Debug, Default)]
pub struct Calls {
    outcomes: [Counter; CallOutcome::VARIANTS.len()],
    /// How long it took to find the answer to a progress call, whether a percentage or a failure.
    pub durations: Timings,
}

impl Calls {
    /// The counter of this outcome.
    #[must_use]
    pub fn of(&self, outcome: CallOutcome) -> &Counter {
        &self.outcomes[outcome as usize]
    }

    /// Counts a call with this outcome.
    pub fn note(&self, outcome: CallOutcome) {
        self.of(outcome).add(1);
    }
}
