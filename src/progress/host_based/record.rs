//! One dd, as it is remembered: its operands, its last position, and the notes on its migration.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::operands::Purpose;
use super::scan::{DdFacts, FoundDd};
use crate::progress::Answer;
use crate::progress::device::Identity;
use crate::progress::memory::copy_store::CopyRecord;
use crate::progress::memory::unsaved::Unsaved;
use crate::progress::migration::{MigrationNotes, precedes};
use crate::progress::pace::Observation;
use crate::progress::proc::error::ProgressError;
use crate::progress::proc::fdinfo::{self, Fd};
use crate::progress::proc::process::{ProcessFolder, ProcessId, Ticks};
use crate::progress::verdict::percent;

/// When the last look at a process began and its result, for all who waited for it.
pub(in crate::progress) type ProbeLock =
    Arc<tokio::sync::Mutex<Option<(Instant, Result<(), ProgressError>)>>>;

/// A dd that was seen to copy or to wipe.
#[derive(Debug, Clone, PartialEq, Hash, Serialize, Deserialize)]
pub(in crate::progress) struct Record {
    /// What its command line says.
    #[serde(flatten)]
    pub dd: DdFacts,
    /// How far it was seen, in its source.
    #[serde(flatten)]
    pub seen: Observation,
    /// What tells which migration made it.
    #[serde(flatten)]
    pub notes: MigrationNotes,
    /// Whether it was seen to be gone.
    pub over: bool,
    /// How it ended, if the kernel told: the status as `wait(2)` has it.
    #[serde(default)]
    exit: Option<i32>,
    /// The size of the volume that was last asked for.
    pub size: Option<u64>,
    /// What makes the next look cheap.
    #[serde(skip)]
    pub access: Unsaved<Access>,
    /// What was said of it in the log.
    #[serde(skip)]
    pub said: Unsaved<LogMemos>,
}

/// What makes the next look at a process cheap.
#[derive(Debug, Clone, Default)]
pub(in crate::progress) struct Access {
    /// The destination's descriptor, once it is known beyond doubt.
    pub fd: Option<Fd>,
    /// Its folder, while it runs.
    pub folder: Option<Arc<ProcessFolder>>,
    /// Whether its destination was seen closed: dd closes it when it has finished.
    closed: bool,
    /// When it was seen to be gone; none if that was before a restart.
    gone: Option<Instant>,
    /// Lets one look at a time through.
    pub probe_lock: ProbeLock,
}

/// What was last logged about a dd, so that nothing is logged twice.
#[derive(Debug, Clone, Default)]
pub(in crate::progress) struct LogMemos {
    /// The other copies of the same source.
    pub other_copies: Vec<ProcessId>,
    /// The trouble with it.
    pub trouble: Option<ProgressError>,
}

/// What a look at a known process told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::progress) enum Reading {
    /// It is gone, or its pid belongs to another process.
    Gone,
    /// It lives, but has no destination open: not yet, or not any more.
    NotOpen,
    /// It writes.
    Written(fdinfo::Found),
}

impl Record {
    pub(in crate::progress) fn new(found: FoundDd) -> Self {
        let mut record = Self {
            dd: found.dd,
            seen: Observation::default(),
            notes: MigrationNotes::default(),
            over: false,
            exit: None,
            size: None,
            access: Unsaved::default(),
            said: Unsaved::default(),
        };
        if let Some(written) = found.written {
            record.note(Reading::Written(written), found.at);
        }
        record
    }

    /// Takes in a look made at `at`.
    pub(in crate::progress) fn note(&mut self, reading: Reading, at: Instant) {
        match reading {
            Reading::Gone => self.ends(at),
            Reading::NotOpen => {
                if self.seen.position.is_some() && !self.access.closed {
                    self.access.closed = true;
                    self.seen.ends(at, self.dd.block);
                }
            }
            Reading::Written(written) => {
                self.access.fd = written.sure.then_some(written.fd);
                self.access.closed = false;
                let position = self.dd.begin.in_source(written.position);
                self.seen.goes_on_at(position, at);
            }
        }
    }

    pub(super) fn ends(&mut self, at: Instant) {
        if self.over {
            return;
        }
        self.over = true;
        self.access.folder = None;
        self.access.gone = Some(at);
        self.notes.ends();
        // Between closing its destination and its end a dd writes nothing.
        if !self.access.closed {
            self.seen.ends(at, self.dd.block);
        }
    }

    /// Takes in how it ended, which the kernel told by `at`.
    pub(super) fn ends_with(&mut self, status: ExitStatus, at: Instant) {
        self.exit = Some(status.into_raw());
        self.ends(at);
    }

    /// How it ended, if the kernel told.
    pub(in crate::progress) fn exit(&self) -> Option<ExitStatus> {
        self.exit.map(ExitStatus::from_raw)
    }

    /// Exit status, of copies only. A wipe without `count=` ends with an error (device full) though it is complete.
    fn copy_exit(&self) -> Option<ExitStatus> {
        self.exit().filter(|_| self.dd.purpose == Purpose::Copy)
    }

    /// Whether it could come to its end between two looks that are `interval` apart.
    pub(in crate::progress) fn nears_its_end(&self, interval: Duration) -> bool {
        if self.dd.purpose != Purpose::Copy || self.over {
            return false;
        }
        // The source may end before the volume that was asked for would: an encrypted one does.
        let end = self.size.into_iter().chain(self.dd.bytes).min();
        end.is_some_and(|end| self.seen.nears(end, interval, self.dd.block))
    }
}

impl CopyRecord for Record {
    fn copies(&self) -> bool {
        self.dd.purpose == Purpose::Copy
    }

    fn source(&self) -> Option<&Identity> {
        Some(&self.dd.source)
    }

    /// A wipe is found by what it writes.
    fn destination(&self) -> Option<&Identity> {
        Some(&self.dd.destination)
    }

    fn observation(&self) -> &Observation {
        &self.seen
    }

    fn notes(&self) -> &MigrationNotes {
        &self.notes
    }

    fn begun(&self) -> Option<Ticks> {
        Some(self.dd.id.start)
    }

    fn began_since(&self, request: Ticks) -> bool {
        !precedes(self.begun(), Some(request))
    }

    fn runs(&self) -> bool {
        !self.over
    }

    fn ended(&self) -> Option<Instant> {
        self.access.gone
    }

    fn source_bytes(&self) -> Option<u64> {
        self.dd.source.bytes()
    }

    /// Less than the source's size where `count=` says so.
    fn bytes(&self) -> Option<u64> {
        self.dd.bytes
    }

    /// If the kernel told the exit status, that decides whether all of `count=` is copied. Otherwise only the last
    /// position tells: a dd that finished and one that was killed look alike.
    fn reached(&self, size: u64) -> bool {
        let end = self.end(size);
        match self.copy_exit() {
            Some(status) => {
                let all = self.dd.bytes.is_none_or(|bytes| bytes >= end);
                status.success() && all && self.seen.position.is_some()
            }
            None => self.seen.reached(end),
        }
    }

    fn was_cut_short(&self, size: u64) -> bool {
        match self.copy_exit() {
            Some(_) => !self.reached(size),
            None => self.seen.was_cut_short(self.end(size)),
        }
    }

    /// Below 100 for a failed dd, at any position: what it had written may not have reached the storage.
    fn by_position(&self, size: u64) -> Answer {
        let failed = self.copy_exit().is_some_and(|status| !status.success());
        match percent(self.seen.position.unwrap_or(0), size) {
            Answer::Percent(percent) if failed => Answer::Percent(percent.min(99)),
            answer => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan::Begin;
    use super::*;
    use crate::progress::tests::fake_host::Fake;

    const MIB: u64 = 1 << 20;

    fn found(pid: i32, start: u64) -> FoundDd {
        let roots = Fake::new().roots();
        let dd = DdFacts {
            id: ProcessId { start, pid },
            purpose: Purpose::Copy,
            source: Identity::of(&roots, "/dev/vg/a"),
            destination: Identity::of(&roots, "/dev/vg/b"),
            block: MIB,
            bytes: Some(1000 * MIB),
            begin: Begin::default(),
        };
        FoundDd {
            dd,
            written: None,
            at: Instant::now(),
        }
    }

    fn written(position: u64) -> Reading {
        Reading::Written(fdinfo::Found {
            fd: 1,
            position,
            sure: true,
        })
    }

    /// A copy of 10 MiB a second, looked at every 20 ms until it has come to `position`.
    fn steady(position: u64) -> (Record, Instant) {
        let mut record = Record::new(found(7, 7));
        let begun = Instant::now();
        let steps = 50_u32;
        for step in 0..=steps {
            let missing = u64::from(steps - step) * MIB / 5;
            record.note(
                written(position - missing),
                begun + step * Duration::from_millis(20),
            );
        }
        (record, begun + steps * Duration::from_millis(20))
    }

    #[test]
    fn a_copy_that_vanishes_in_its_last_moments_has_reached_the_end() {
        let (mut record, last) = steady(999 * MIB);
        assert!(!record.reached(1000 * MIB), "not while it runs");
        record.note(Reading::Gone, last + Duration::from_millis(20));
        assert!(record.reached(1000 * MIB));
    }

    #[test]
    fn a_copy_that_vanishes_earlier_has_not() {
        let (mut record, last) = steady(970 * MIB);
        record.note(Reading::Gone, last + Duration::from_millis(20));
        assert!(!record.reached(1000 * MIB));
    }

    #[test]
    fn a_copy_that_stood_still_has_not() {
        let (mut record, last) = steady(999 * MIB);
        record.note(written(999 * MIB), last + Duration::from_secs(3));
        record.note(written(999 * MIB), last + Duration::from_secs(6));
        record.note(Reading::Gone, last + Duration::from_secs(6));
        assert!(!record.reached(1000 * MIB));
    }

    #[test]
    fn a_copy_that_went_on_after_a_halt_has() {
        let (mut record, last) = steady(999 * MIB);
        let again = last + Duration::from_millis(1500);
        for step in 0..=5_u32 {
            let position = (999 * MIB) + u64::from(step) * MIB / 10;
            record.note(written(position), again + step * Duration::from_millis(20));
        }
        record.note(Reading::Gone, again + Duration::from_millis(140));
        assert!(record.reached(1000 * MIB));
    }

    #[test]
    fn a_copy_not_looked_at_for_long_has_only_what_was_seen() {
        let (mut record, last) = steady(999 * MIB);
        record.note(Reading::Gone, last + Duration::from_secs(1));
        assert!(!record.reached(1000 * MIB));
    }

    #[test]
    fn closing_the_destination_is_the_end_of_copying() {
        let (mut record, last) = steady(999 * MIB);
        record.note(Reading::NotOpen, last + Duration::from_millis(20));
        assert!(record.runs());
        record.note(Reading::Gone, last + Duration::from_secs(60));
        assert!(record.reached(1000 * MIB));
    }

    #[test]
    fn how_it_ended_decides_whatever_its_pace_was() {
        let ended = |position, raw| {
            let (mut record, last) = steady(position);
            record.ends_with(ExitStatus::from_raw(raw), last + Duration::from_millis(20));
            record
        };
        let size = 1000 * MIB;
        assert!(
            ended(500 * MIB, 0).reached(size),
            "though it was seen long before its end"
        );
        let told = |record: &Record| (record.reached(size), record.evidence(size).cut_short);
        for failure in [1 << 8, 9, 15] {
            assert_eq!(told(&ended(999 * MIB, failure)), (false, true));
            let written = ended(size, failure);
            assert_eq!(told(&written), (false, true), "it had yet to flush");
            assert_eq!(written.by_position(size), Answer::Percent(99));
        }
        let mut part = ended(100 * MIB, 0);
        part.dd.bytes = Some(100 * MIB);
        assert!(
            !part.reached(size),
            "it was told to copy no more than a part"
        );
        let mut wipe = ended(size, 1 << 8);
        wipe.dd.purpose = Purpose::Wipe;
        assert!(wipe.reached(size), "it came to the end of its device");
    }

    #[test]
    fn the_end_is_watched_more_closely() {
        let second = Duration::from_secs(1);
        assert!(!steady(500 * MIB).0.nears_its_end(second));
        assert!(steady(980 * MIB).0.nears_its_end(second));
        assert!(
            !steady(1000 * MIB).0.nears_its_end(second),
            "nothing is left to miss"
        );
        let mut fresh = Record::new(found(7, 7));
        assert!(
            !fresh.nears_its_end(second),
            "nothing written, nothing to miss"
        );
        fresh.note(written(MIB), Instant::now());
        assert!(fresh.nears_its_end(second), "it may be a fast one");
    }

    #[test]
    fn the_end_of_a_source_that_is_smaller_than_its_volume_is_watched_as_closely() {
        let (mut record, _) = steady(980 * MIB);
        record.size = Some(1100 * MIB);
        assert!(record.nears_its_end(Duration::from_secs(1)));
        record.size = Some(500 * MIB);
        assert!(!record.nears_its_end(Duration::from_secs(1)));
    }
}
