//! The log lines of each copy: one when it starts and one when it ends.
//!
//! The second line alone is enough: whose copy it was and how that is known, how far it came, how long it took,
//! how fast it was, and how it ended. Wipes have the same two lines without a percentage.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};

use super::Answer;
use super::file_based::copy::{End, FileCopy};
use super::host_based::operands::Purpose;
use super::host_based::record::Record;
use super::memory::copy_store::CopyRecord;
use super::migration::KnownBy;
use super::proc::process::{self, Ticks};
use super::report::RunningCopy;
use super::verdict::percent;

/// How volumes are named, for copies that were never asked about: cinder's default of `volume_name_template`.
const USUAL_TEMPLATE: &str = "volume-%s";

/// How a copy ended, as far as can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum CopyEnd {
    /// All of it is written: its dd ended with status 0, or its pace says so.
    Done,
    /// Its dd ended with another status.
    Failed,
    /// Its dd was killed by a signal.
    Killed,
    /// It ended before all of it was written.
    Early,
    /// It may have come to its end after the last look at it.
    Unknown,
}

impl CopyEnd {
    /// Its name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The end of a dd's copy: by the kernel's exit status if there is one, for as much as dd was told to copy.
    pub(super) fn of(record: &Record) -> Self {
        if let Some(status) = record.exit() {
            return match status.signal() {
                Some(_) => Self::Killed,
                None if status.success() => Self::Done,
                None => Self::Failed,
            };
        }
        match record.size.or(record.dd.bytes) {
            Some(total) if record.reached(total) => Self::Done,
            Some(total) if record.evidence(total).cut_short => Self::Early,
            _ => Self::Unknown,
        }
    }
}

/// How many copies have ended, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndedCopies([u64; CopyEnd::VARIANTS.len()]);

impl EndedCopies {
    /// Counts one.
    pub(super) fn count(&mut self, end: CopyEnd) {
        self.0[end as usize] += 1;
    }

    /// How many have ended so.
    #[must_use]
    pub fn of(&self, end: CopyEnd) -> u64 {
        self.0[end as usize]
    }

    /// The sum of both.
    pub(super) fn and(self, other: Self) -> Self {
        let mut both = self;
        for (count, more) in both.0.iter_mut().zip(other.0) {
            *count += more;
        }
        both
    }
}

/// What is known of a copy at its end.
#[derive(Debug, PartialEq)]
struct Summary {
    outcome: CopyEnd,
    /// Whole percents: 100 of what is done.
    percent: Option<u8>,
    /// Bytes copied: all of them of what is done.
    bytes: Option<u64>,
    /// Whole seconds since it started.
    seconds: u64,
    /// Bytes a second over all that time.
    rate: Option<u64>,
}

impl Summary {
    fn new(outcome: CopyEnd, seen: Option<u64>, total: Option<u64>, took: Duration) -> Self {
        let bytes = if outcome == CopyEnd::Done {
            total.or(seen)
        } else {
            seen
        };
        let most = match outcome {
            CopyEnd::Failed | CopyEnd::Killed => 99,
            CopyEnd::Done | CopyEnd::Early | CopyEnd::Unknown => 100,
        };
        let percent = match bytes.zip(total).map(|(bytes, total)| percent(bytes, total)) {
            Some(Answer::Percent(percent)) => Some(percent.min(most)),
            Some(Answer::Unknown) | None => None,
        };
        let rate = bytes.filter(|_| !took.is_zero()).map(|bytes| {
            // Far below 2^53, so nothing is lost in the conversion.
            (bytes as f64 / took.as_secs_f64()) as u64
        });
        Self {
            outcome,
            percent,
            bytes,
            seconds: took.as_secs(),
            rate,
        }
    }

    fn of(record: &Record) -> Self {
        let total = record.size.or(record.dd.bytes);
        let outcome = CopyEnd::of(record);
        Self::new(
            outcome,
            record.seen.position,
            total,
            since(record.dd.id.start),
        )
    }

    fn of_files(copy: &FileCopy) -> Self {
        let outcome = match copy.end {
            Some(End::Closed) => CopyEnd::Done,
            Some(End::Early) => CopyEnd::Early,
            Some(End::Gone) | None => CopyEnd::Unknown,
        };
        let total = copy.file.ends.as_ref().and_then(|ends| ends.bytes);
        let position = copy.seen.position.filter(|_| copy.file.moves);
        let begun = copy.file.begun;
        Self::new(
            outcome,
            position,
            total,
            begun.map_or(Duration::ZERO, since),
        )
    }
}

/// How long ago that was.
fn since(begun: Ticks) -> Duration {
    process::ticks(process::now().saturating_sub(begun))
}

/// The volume's id, and the rule by which it is known.
fn volume(record: &Record) -> (Option<String>, Option<&'static str>) {
    let end = if record.dd.purpose == Purpose::Wipe {
        &record.dd.destination
    } else {
        &record.dd.source
    };
    match end.volume_id(USUAL_TEMPLATE) {
        Some(id) => (Some(id), Some(KnownBy::Name.name())),
        None => {
            let rule = record.notes.known_by.unwrap_or(KnownBy::Name);
            let known = record.notes.volume.as_ref().map(|_| rule.name());
            (record.notes.volume.clone(), known)
        }
    }
}

/// A dd was seen for the first time.
pub(super) fn dd_started(record: &Record) {
    let (volume_id, known_by) = volume(record);
    let (pid, source, destination) = (
        record.dd.id.pid,
        record.dd.source.path(),
        record.dd.destination.path(),
    );
    if record.dd.purpose == Purpose::Wipe {
        tracing::info!(volume_id, pid, destination, "wipe started");
    } else {
        tracing::info!(
            kind = "dd",
            volume_id,
            known_by,
            pid,
            source,
            destination,
            total_bytes = record.dd.bytes,
            "copy started"
        );
    }
}

/// A dd is gone. Returns how it ended, for a copy that may be cinder's.
pub(super) fn dd_ended(record: &Record) -> Option<CopyEnd> {
    let (volume_id, known_by) = volume(record);
    let summary = Summary::of(record);
    let (pid, destination) = (record.dd.id.pid, record.dd.destination.path());
    if record.dd.purpose == Purpose::Wipe {
        tracing::info!(
            bytes = summary.bytes,
            seconds = summary.seconds,
            volume_id,
            pid,
            destination,
            "wipe ended"
        );
    } else {
        tracing::info!(
            outcome = summary.outcome.name(),
            status = record.exit().and_then(|exit| exit.code()),
            signal = record.exit().and_then(|exit| exit.signal()),
            percent = summary.percent,
            bytes = summary.bytes,
            seconds = summary.seconds,
            bytes_per_second = summary.rate,
            kind = "dd",
            volume_id,
            known_by,
            pid,
            source = record.dd.source.path(),
            destination,
            "copy ended"
        );
    }
    let copy = RunningCopy::new(record, None);
    let counts = record.dd.purpose == Purpose::Copy && copy.may_be_cinders(USUAL_TEMPLATE);
    counts.then_some(summary.outcome)
}

/// A copy through open files was seen for the first time. `path` is that of the file that is followed.
pub(super) fn files_started(copy: &FileCopy, path: &str) {
    let ends = copy.file.ends.as_ref();
    let (volume_id, known_by) = volume_of_files(copy);
    tracing::info!(
        kind = "file",
        volume_id,
        known_by,
        pid = copy.file.id.pid,
        fd = copy.file.fd,
        source = ends.map(|ends| ends.source.path()),
        destination = ends.map(|ends| ends.destination.path()),
        path = ends.is_none().then_some(path),
        total_bytes = ends.and_then(|ends| ends.bytes),
        "copy started"
    );
}

/// A copy through open files is over. Returns how it ended.
pub(super) fn files_ended(copy: &FileCopy) -> CopyEnd {
    let ends = copy.file.ends.as_ref();
    let summary = Summary::of_files(copy);
    let (volume_id, known_by) = volume_of_files(copy);
    tracing::info!(
        outcome = summary.outcome.name(),
        percent = summary.percent,
        bytes = summary.bytes,
        seconds = summary.seconds,
        bytes_per_second = summary.rate,
        kind = "file",
        volume_id,
        known_by,
        pid = copy.file.id.pid,
        fd = copy.file.fd,
        source = ends.map(|ends| ends.source.path()),
        destination = ends.map(|ends| ends.destination.path()),
        "copy ended"
    );
    summary.outcome
}

fn volume_of_files(copy: &FileCopy) -> (Option<String>, Option<&'static str>) {
    let ends = copy.file.ends.as_ref();
    let named = ends.and_then(|ends| ends.source.volume_id(USUAL_TEMPLATE));
    let id = named.or_else(|| copy.notes.volume.clone());
    let rule = copy.notes.known_by.unwrap_or(KnownBy::Name);
    let rule = id.as_ref().map(|_| rule.name());
    (id, rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn summary(outcome: CopyEnd, seen: Option<u64>, total: Option<u64>) -> Summary {
        Summary::new(outcome, seen, total, Duration::from_millis(2_500))
    }

    #[test]
    fn what_is_done_is_told_as_all_of_it_though_the_last_look_was_short_of_it() {
        let done = summary(CopyEnd::Done, Some(99 * MIB), Some(100 * MIB));
        let expected = Summary {
            outcome: CopyEnd::Done,
            percent: Some(100),
            bytes: Some(100 * MIB),
            seconds: 2,
            rate: Some(40 * MIB),
        };
        assert_eq!(done, expected);
    }

    #[test]
    fn what_ended_early_is_told_as_far_as_it_was_seen() {
        let early = summary(CopyEnd::Early, Some(50 * MIB), Some(100 * MIB));
        assert_eq!((early.percent, early.bytes), (Some(50), Some(50 * MIB)));
        assert_eq!(early.rate, Some(20 * MIB));
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        let unseen = summary(CopyEnd::Unknown, None, Some(MIB));
        assert_eq!(
            (unseen.percent, unseen.bytes, unseen.rate),
            (None, None, None)
        );
        let endless = summary(CopyEnd::Unknown, Some(MIB), None);
        assert_eq!((endless.percent, endless.bytes), (None, Some(MIB)));
        let at_once = Summary::new(CopyEnd::Done, Some(MIB), Some(MIB), Duration::ZERO);
        assert_eq!(at_once.rate, None);
    }
}
