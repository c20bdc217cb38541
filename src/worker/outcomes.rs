//! What became of the calls that were ours, in numbers.

use strum::{IntoStaticStr, VariantArray};

use crate::counters::{Counter, Timings};
use crate::progress::{ProgressError, Trouble};

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum CallOutcome {
    /// It was told a percentage.
    Answered,
    /// It was told `unknown_progress`.
    Unknown,
    /// Its volume is invalid (`InvalidVolume`).
    InvalidVolume,
    /// Nobody here serves its method (`NoSuchMethod`).
    NoSuchMethod,
    /// Nobody here serves its version (`UnsupportedVersion`).
    UnsupportedVersion,
    /// It was not made as calls are.
    Malformed,
    /// The kernel refused to tell for want of a permission.
    Denied,
    /// Reads hung.
    TimedOut,
    /// Looking failed otherwise.
    Failed,
    /// Too many others were being answered.
    Overloaded,
    /// It was delivered before.
    Duplicate,
    /// It waited for no answer and got none.
    Cast,
    /// It was a ping.
    Ping,
    /// No answer could have left: it went on to cinder-volume.
    Passed,
}

impl CallOutcome {
    /// Its name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// That of a call that was refused with a failure of this class.
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

/// The calls of all backends so far.
#[derive(Debug, Default)]
pub struct Calls {
    outcomes: [Counter; CallOutcome::VARIANTS.len()],
    /// How long it took to find the answers, good or bad, of progress calls.
    pub durations: Timings,
}

impl Calls {
    /// How many came to this.
    #[must_use]
    pub fn of(&self, outcome: CallOutcome) -> &Counter {
        &self.outcomes[outcome as usize]
    }

    /// Counts one.
    pub fn note(&self, outcome: CallOutcome) {
        self.of(outcome).add(1);
    }
}
