//! One dd, as it is remembered: what it is, how far it was seen, and what is known of its migration.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::operands::Purpose;
use super::scan::{Begin, Found};
use crate::progress::device::Identity;
use crate::progress::journal;
use crate::progress::migration::{self, Facts, is_recent};
use crate::progress::proc::error::ProgressError;
use crate::progress::proc::fdinfo::{self, Fd};
use crate::progress::proc::process::{Folder, ProcessId};
use crate::progress::state::format::SavedRecord;
use crate::progress::volume_index::Keys;
use crate::progress::volumes::KnownBy;

/// How long what is over is remembered though nobody has asked about it. It is of use for as long as a
/// migration takes to complete ([`is_recent`]), and some of them take longer.
pub(super) const UNASKED: Duration = Duration::from_secs(24 * 3600);

/// How far back the pace of a copy is measured.
const PACE_WINDOW: Duration = Duration::from_secs(2);

/// The shortest time a pace is measured over.
const PACE_LEAST: Duration = Duration::from_millis(100);

/// The longest time between the last position seen and the end that the pace is trusted to bridge.
pub(in crate::progress) const BRIDGE: Duration = Duration::from_millis(250);

/// How much faster than ever before a copy may have been in its last moments.
const BRIDGE_MARGIN: f64 = 2.0;

/// Whether it is longer ago than anybody is expected to ask.
pub(in crate::progress) fn is_long_ago(at: SystemTime) -> bool {
    at.elapsed().is_ok_and(|passed| passed > UNASKED)
}

/// The last look at a process and its outcome, for all who waited for it.
pub(in crate::progress) type Gate =
    Arc<tokio::sync::Mutex<Option<(Instant, Result<(), ProgressError>)>>>;

/// A dd that was seen to copy or to wipe.
#[derive(Debug)]
pub(in crate::progress) struct Record {
    /// The process.
    pub id: ProcessId,
    /// Copy or wipe.
    pub purpose: Purpose,
    /// What it reads.
    pub source: Identity,
    /// What it writes.
    pub destination: Identity,
    block: u64,
    /// Where in its source it ends.
    pub bytes: Option<u64>,
    /// Where it begins.
    begin: Begin,
    /// What it is found by.
    pub(super) keys: Keys,
    track: Track,
    /// How far it counted as having come when an earlier run of the daemon wrote it down.
    proved: u64,
    /// The furthest it may have come by then, where that was known; none for what this run has seen.
    restored: Option<Option<u64>>,
    /// The destination's descriptor, once it is known beyond doubt.
    fd: Option<Fd>,
    /// Its folder, while it runs.
    pub folder: Option<Arc<Folder>>,
    /// When its destination was seen closed, which dd does when it is through.
    closed: Option<Instant>,
    /// When it was seen to be gone.
    pub(super) gone: Option<Instant>,
    /// When it was last sure to concern the migration that goes on: at its end, and when it was asked
    /// for soon after. By the clock on the wall, because it outlives the daemon.
    pub(super) lately: Option<SystemTime>,
    /// The size of the volume that was last asked for.
    pub size: Option<u64>,
    /// The volume that was given this copy as its own.
    pub volume: Option<String>,
    /// By which rule.
    pub known_by: Option<KnownBy>,
    /// When it was seen to be gone, by the clock on the wall.
    ended: Option<SystemTime>,
    /// When the volume's row was last changed, as a call told while this ran.
    pub updated_at: Option<SystemTime>,
    /// Whether the volume was asked for while this ran, and its migration went on.
    pub confirmed: bool,
    /// Whether the volume was attached when it was asked for while this ran.
    pub attached: bool,
    /// Where the volume was, by its object, when it was first asked for.
    pub host: Option<String>,
    /// Whether the volume was asked for after this was over and no migration went on any more.
    pub settled: bool,
    /// The other copies of the same source, as last said in the log.
    pub rivals: Vec<ProcessId>,
    /// The trouble with it, as last said in the log.
    pub trouble: Option<ProgressError>,
    /// Lets one look at a time through.
    pub gate: Gate,
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
    pub(super) fn new(found: Found) -> Self {
        let mut record = Self {
            id: found.id,
            purpose: found.purpose,
            source: found.source,
            destination: found.destination,
            block: found.block,
            bytes: found.bytes,
            begin: found.begin,
            keys: Keys::default(),
            track: Track::default(),
            proved: 0,
            restored: None,
            fd: None,
            folder: None,
            closed: None,
            gone: None,
            lately: None,
            size: None,
            volume: None,
            known_by: None,
            ended: None,
            updated_at: None,
            confirmed: false,
            attached: false,
            host: None,
            settled: false,
            rivals: Vec::new(),
            trouble: None,
            gate: Gate::default(),
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
                if self.position().is_some() {
                    self.closed.get_or_insert(at);
                }
            }
            Reading::Written(written) => {
                self.fd = written.sure.then_some(written.fd);
                self.closed = None;
                self.restored = None;
                self.track.add(at, self.begin.in_source(written.position));
            }
        }
    }

    pub(super) fn ends(&mut self, at: Instant) {
        if self.gone.is_none() {
            self.gone = Some(at);
            self.ended = Some(SystemTime::now());
            self.lately = self.ended;
            self.folder = None;
            journal::dd_ended(self);
        }
    }

    /// Whether the process still ran when last looked at.
    pub(in crate::progress) fn runs(&self) -> bool {
        self.gone.is_none()
    }

    /// Whether it runs, or is sure to concern the migration that goes on.
    pub(in crate::progress) fn is_recent(&self) -> bool {
        self.runs() || self.lately.is_none_or(is_recent)
    }

    /// Takes in that the migration it concerns goes on still.
    pub(in crate::progress) fn goes_on(&mut self) {
        self.lately = Some(SystemTime::now());
    }

    /// Whether its volume was asked about, so that what became of it matters still.
    pub(super) fn was_asked_about(&self) -> bool {
        self.volume.is_some() || self.host.is_some() || self.settled
    }

    /// Whether nobody will miss it: it has been over for long and was never asked about.
    pub(super) fn is_to_be_forgotten(&self) -> bool {
        !self.runs() && !self.was_asked_about() && self.lately.is_some_and(is_long_ago)
    }

    /// What it is found by as things stand.
    pub(super) fn found_by(&self) -> Keys {
        let volume = self.volume.as_deref();
        Keys::of(Some(&self.source), Some(&self.destination), volume)
    }

    /// Changes when it is to be found by something else. Names are only ever added.
    pub(super) fn names(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let words = (self.source.len(), self.destination.len());
        (words, self.source.is_unnamed(), &self.volume).hash(&mut hasher);
        hasher.finish()
    }

    /// Changes when there is something new to write down of it.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let words = (self.source.len(), self.destination.len());
        let state = (self.runs(), self.attached, self.settled);
        (self.position(), self.reach(), words, state).hash(&mut hasher);
        (self.size, &self.volume, &self.host).hash(&mut hasher);
        (self.known_by, self.updated_at, self.confirmed).hash(&mut hasher);
        hasher.finish()
    }

    /// The last position seen, in its source.
    pub(in crate::progress) fn position(&self) -> Option<u64> {
        self.track.last().map(|(_, position)| position)
    }

    /// When the last position was seen.
    pub(in crate::progress) fn seen_at(&self) -> Option<Instant> {
        self.track.last().map(|(at, _)| at)
    }

    /// The destination's descriptor, if it need not be searched for.
    pub(in crate::progress) fn fd(&self) -> Option<Fd> {
        self.fd
    }

    /// What of it survives the daemon.
    pub(super) fn saved(&self) -> SavedRecord {
        SavedRecord {
            id: self.id,
            purpose: self.purpose,
            source: self.source.clone(),
            destination: self.destination.clone(),
            block: self.block,
            bytes: self.bytes,
            begin: self.begin,
            position: self.position(),
            reach: self.reach(),
            at_most: self.at_most(),
            over: !self.runs(),
            lately: self.lately,
            size: self.size,
            volume: self.volume.clone(),
            known_by: self.known_by,
            ended: self.ended,
            updated_at: self.updated_at,
            confirmed: self.confirmed,
            attached: self.attached,
            host: self.host.clone(),
            settled: self.settled,
        }
    }

    /// Takes up what an earlier run of the daemon has written down.
    ///
    /// Whether a process that ran then still does is for the next look to find out. When its last
    /// position was seen is not known any more, so the pace up to here counts for nothing.
    pub(super) fn restored(saved: SavedRecord, at: Instant) -> Self {
        let mut record = Self::new(Found {
            id: saved.id,
            purpose: saved.purpose,
            source: saved.source,
            destination: saved.destination,
            block: saved.block,
            bytes: saved.bytes,
            begin: saved.begin,
            written: None,
            at,
        });
        if let Some(position) = saved.position {
            record.track.add(at, position);
        }
        record.proved = saved.reach;
        record.restored = Some(saved.at_most.filter(|_| saved.over));
        record.gone = saved.over.then_some(at);
        record.lately = saved.lately;
        record.size = saved.size;
        record.volume = saved.volume;
        record.known_by = saved.known_by;
        record.ended = saved.ended;
        record.updated_at = saved.updated_at;
        record.confirmed = saved.confirmed;
        record.attached = saved.attached;
        record.host = saved.host;
        record.settled = saved.settled;
        record
    }

    /// What tells which migration it was made by, that of a volume of `size` bytes.
    pub(in crate::progress) fn facts(&self, size: u64) -> Facts<'_> {
        Facts {
            begun: Some(self.id.start),
            ended: self.ended,
            cut_short: self.was_cut_short(size),
            settled: self.settled,
            host: self.host.as_deref(),
            updated_at: self.updated_at,
        }
    }

    /// Whether it surely ended before it had come to `size`.
    fn was_cut_short(&self, size: u64) -> bool {
        self.at_most().is_some_and(|most| most < self.end(size))
    }

    /// The furthest it may have come in all, once it is over.
    fn at_most(&self) -> Option<u64> {
        if let Some(most) = self.restored {
            return most;
        }
        let (at, position) = self.track.last()?;
        let ended = self.closed.or(self.gone)?;
        let unseen = ended.saturating_duration_since(at);
        Some(migration::at_most(position, self.track.pace(), unseen))
    }

    /// Where it ends at the latest, of a volume of `size` bytes.
    fn end(&self, size: u64) -> u64 {
        let there = self.source.bytes().filter(|&bytes| bytes > 0);
        there.map_or(size, |there| there.min(size))
    }

    /// Whether a copy that is over had reached `size`.
    ///
    /// dd ends within microseconds of its last write, so hardly ever is the full position seen. A copy
    /// counts as complete if, at its own pace, the rest was due in the fraction of a second between the
    /// last look and its end. If it was looked at less recently than that, only what was seen counts.
    ///
    /// A source may be smaller than its volume: encryption keeps a few MiB for itself, and a file may
    /// hold less than it stands for. Its end is the end.
    pub(in crate::progress) fn reached(&self, size: u64) -> bool {
        self.position().is_some() && self.reach() >= self.end(size)
    }

    /// How far it counts as having come.
    fn reach(&self) -> u64 {
        let Some((at, position)) = self.track.last() else {
            return self.proved;
        };
        let seen = position.max(self.proved);
        let Some(end) = self.closed.or(self.gone) else {
            return seen;
        };
        let unseen = end.saturating_duration_since(at);
        match self.track.pace() {
            Some(pace) if pace > 0.0 && unseen <= BRIDGE => {
                let bridged = BRIDGE_MARGIN * pace * unseen.as_secs_f64() + self.block as f64;
                // Far below 2^53, so nothing is lost in the conversion.
                seen.max(position.saturating_add(bridged as u64))
            }
            _ => seen,
        }
    }

    /// Whether the end is so near, or the pace so unknown, that it could come between two usual looks.
    pub(in crate::progress) fn nears_its_end(&self, interval: Duration) -> bool {
        if self.purpose != Purpose::Copy || !self.runs() {
            return false;
        }
        // The source may end before the volume that was asked for would: an encrypted one does.
        let end = match (self.size, self.bytes) {
            (Some(size), Some(bytes)) => Some(size.min(bytes)),
            (size, bytes) => size.or(bytes),
        };
        let (Some((_, position)), Some(end)) = (self.track.last(), end) else {
            return false;
        };
        match self.track.pace() {
            None => true,
            Some(pace) => {
                let left = end.saturating_sub(position) as f64;
                // One that stalls close to its end may go on any moment.
                let soon = pace.max(self.block as f64);
                left > 0.0 && left <= soon * 2.0 * interval.max(PACE_WINDOW).as_secs_f64()
            }
        }
    }
}

/// The last few positions of a copy.
#[derive(Debug, Default)]
struct Track {
    positions: VecDeque<(Instant, u64)>,
}

impl Track {
    fn add(&mut self, at: Instant, position: u64) {
        if self.last().is_some_and(|(last, _)| at < last) {
            return;
        }
        self.positions.push_back((at, position));
        // Two stay whatever their age: a pace takes two.
        while self.positions.len() > 2
            && self
                .positions
                .front()
                .is_some_and(|&(first, _)| at.duration_since(first) > PACE_WINDOW)
        {
            self.positions.pop_front();
        }
    }

    fn last(&self) -> Option<(Instant, u64)> {
        self.positions.back().copied()
    }

    /// The most bytes a second of any stretch of [`PACE_LEAST`] or a little more: storage works in bursts,
    /// and the last one is not to be underestimated.
    fn pace(&self) -> Option<f64> {
        let mut starts = self.positions.iter().peekable();
        let mut fastest = None;
        for &(to, end) in &self.positions {
            let long_enough = |(from, _): &&(Instant, u64)| to.duration_since(*from) >= PACE_LEAST;
            let mut start = None;
            while let Some(later) = starts.next_if(long_enough) {
                start = Some(later);
            }
            if let Some(&(from, start)) = start {
                let pace = end.saturating_sub(start) as f64 / to.duration_since(from).as_secs_f64();
                fastest = Some(pace.max(fastest.unwrap_or(0.0)));
            }
        }
        fastest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::tests::fake_host::Fake;

    const MIB: u64 = 1 << 20;

    fn found(pid: i32, start: u64) -> Found {
        let roots = Fake::new().roots();
        Found {
            id: ProcessId { start, pid },
            purpose: Purpose::Copy,
            source: Identity::of(&roots, "/dev/vg/a"),
            destination: Identity::of(&roots, "/dev/vg/b"),
            block: MIB,
            bytes: Some(1000 * MIB),
            begin: Begin::default(),
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
