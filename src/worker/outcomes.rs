//! What became of the calls that were ours, in numbers.

use crate::counters::{Counter, Timings};
use crate::progress::{ProgressError, Trouble};

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// All of them, in the order of their definition.
    pub const ALL: [Self; 14] = [
        Self::Answered,
        Self::Unknown,
        Self::InvalidVolume,
        Self::NoSuchMethod,
        Self::UnsupportedVersion,
        Self::Malformed,
        Self::Denied,
        Self::TimedOut,
        Self::Failed,
        Self::Overloaded,
        Self::Duplicate,
        Self::Cast,
        Self::Ping,
        Self::Passed,
    ];

    /// Its name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Unknown => "unknown",
            Self::InvalidVolume => "invalid_volume",
            Self::NoSuchMethod => "no_such_method",
            Self::UnsupportedVersion => "unsupported_version",
            Self::Malformed => "malformed",
            Self::Denied => "denied",
            Self::TimedOut => "timed_out",
            Self::Failed => "failed",
            Self::Overloaded => "overloaded",
            Self::Duplicate => "duplicate",
            Self::Cast => "cast",
            Self::Ping => "ping",
            Self::Passed => "passed",
        }
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
    outcomes: [Counter; CallOutcome::ALL.len()],
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_stand_in_the_order_of_their_numbers() {
        for (at, outcome) in CallOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, at);
        }
    }
}
