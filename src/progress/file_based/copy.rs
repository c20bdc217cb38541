//! One copy through open files: what is remembered of it. Pure.

use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::open_files::{Mark, OpenFile};
use crate::progress::Question;
use crate::progress::device::Identity;
use crate::progress::host_based::record::is_long_ago;
use crate::progress::migration::{self, Facts};
use crate::progress::proc::fdinfo::Fd;
use crate::progress::proc::process::{self, ProcessId, Ticks};
use crate::progress::volume_index::Keys;

/// The shortest time a pace is measured over.
const PACE_LEAST: Duration = Duration::from_millis(100);

/// How much faster than ever before a copy may have been in its last moments. More than a dd is trusted
/// with: it was looked at less closely.
const MARGIN: f64 = 4.0;

/// What may have been written in one go after the last look: some of cinder's pieces, which have 4 MiB.
const PIECES: u64 = 16 << 20;

/// A file of a volume's that was seen open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::progress) struct FileCopy {
    /// Its place among those that are remembered.
    #[serde(skip)]
    pub number: u64,
    /// Who had it open.
    pub id: ProcessId,
    /// As what.
    pub fd: Fd,
    /// What the kernel said of it.
    pub mark: Mark,
    /// The volume asked for when it was found; none if it was found though nobody asked.
    pub volume: Option<String>,
    /// What is copied where, if both are known.
    #[serde(default)]
    pub ends: Option<Ends>,
    /// What is known of it, if that is not enough to call it a copy.
    #[serde(default)]
    pub lone: Option<Lone>,
    /// When it was first seen.
    #[serde(default)]
    begun: Option<Ticks>,
    /// When it was seen to have ended, by the clock on the wall.
    #[serde(default)]
    ended_at: Option<SystemTime>,
    /// The furthest it may have come by then.
    #[serde(default)]
    at_most: Option<u64>,
    /// When the volume's row was last changed, as told while this went on.
    #[serde(default)]
    pub updated_at: Option<SystemTime>,
    /// How far it was when last looked at.
    pub position: u64,
    /// How it moves, as far as this daemon has seen.
    #[serde(skip)]
    track: Option<Track>,
    /// Whether its position tells anything.
    pub moves: bool,
    pub end: Option<End>,
    /// When it was seen to have ended, by this daemon.
    #[serde(skip)]
    pub ended: Option<Instant>,
    /// When it was last sure to concern the migration that goes on: at its end, and when it was asked
    /// for soon after.
    #[serde(default)]
    pub lately: Option<SystemTime>,
    /// Where the volume was, by its object, when it was found.
    #[serde(default)]
    pub host: Option<String>,
    /// Whether the volume was attached when it was asked for while this went on.
    #[serde(default)]
    pub attached: bool,
    /// Whether the volume was asked for afterwards, when no migration went on any more.
    pub settled: bool,
}

/// How a copy moves.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Track {
    /// When its position was last seen.
    seen: Instant,
    /// Where the pace is measured from.
    from: (Instant, u64),
    /// The most bytes a second so far; 0 until that is known.
    pace: f64,
}

/// The two ends of a copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::progress) struct Ends {
    /// What is read.
    pub source: Identity,
    /// What is written; its descriptor is the one that is followed.
    pub destination: Identity,
    /// How large the source is, where that can be told.
    pub bytes: Option<u64>,
}

/// One file that may be an end of a volume's copy: of the other nothing is to be seen, as of an image in Ceph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::progress) struct Lone {
    /// What it is called.
    pub identity: Identity,
    /// Whether it is written, rather than read.
    pub writes: bool,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(in crate::progress) enum End {
    /// Its process closed it and went on, as cinder-volume does when all is copied.
    Closed,
    /// Its process closed it far from its end, as cinder-volume does when something failed.
    Early,
    /// Its process is gone.
    Gone,
}

impl Track {
    fn begin(at: Instant, position: u64) -> Self {
        Self {
            seen: at,
            from: (at, position),
            pace: 0.0,
        }
    }
}

impl FileCopy {
    /// One that was found when its volume was asked for.
    pub(in crate::progress) fn asked_for(
        question: &Question,
        file: &OpenFile,
        listed: Instant,
    ) -> Self {
        Self {
            volume: Some(question.volume_id.clone()),
            host: question.host.clone(),
            attached: question.attached,
            ..Self::new(file, listed)
        }
    }

    /// One that was found though nobody asked.
    pub(in crate::progress) fn between(ends: Ends, file: &OpenFile, listed: Instant) -> Self {
        Self {
            ends: Some(ends),
            ..Self::new(file, listed)
        }
    }

    /// One of which a single end is to be seen.
    pub(in crate::progress) fn lone(lone: Lone, file: &OpenFile, listed: Instant) -> Self {
        Self {
            lone: Some(lone),
            ..Self::new(file, listed)
        }
    }

    fn new(file: &OpenFile, listed: Instant) -> Self {
        Self {
            number: 0,
            id: file.id,
            fd: file.fd,
            mark: file.mark,
            volume: None,
            ends: None,
            lone: None,
            begun: Some(process::now()),
            ended_at: None,
            at_most: None,
            updated_at: None,
            position: file.position,
            track: Some(Track::begin(listed, file.position)),
            moves: file.moves,
            end: None,
            ended: None,
            lately: None,
            host: None,
            attached: false,
            settled: false,
        }
    }

    /// Whether this is the file it was found by.
    pub(in crate::progress) fn is(&self, file: &OpenFile) -> bool {
        (self.id, self.fd, self.mark) == (file.id, file.fd, file.mark)
    }

    /// Whether it is the volume's that is asked about.
    pub(in crate::progress) fn is_of(&self, question: &Question) -> bool {
        match (&self.volume, &self.ends) {
            (Some(volume), _) => *volume == question.volume_id,
            (None, Some(ends)) => ends.source.is_of(question),
            (None, None) => false,
        }
    }

    /// What it is found by.
    pub(in crate::progress) fn keys(&self) -> Keys {
        let source = self.ends.as_ref().map(|ends| &ends.source);
        Keys::of(source, None, self.volume.as_deref())
    }

    /// Whether nobody will miss it: it has been over for long and was never asked about.
    pub(in crate::progress) fn is_to_be_forgotten(&self) -> bool {
        let was_asked_about = self.volume.is_some() || self.host.is_some() || self.settled;
        self.end.is_some() && !was_asked_about && self.lately.is_some_and(is_long_ago)
    }

    /// Takes in where it was `now`.
    pub(in crate::progress) fn goes_on_at(&mut self, position: u64, now: Instant) {
        let track = self.track.get_or_insert(Track::begin(now, position));
        track.seen = now;
        let (then, before) = track.from;
        let passed = now.saturating_duration_since(then);
        if passed >= PACE_LEAST {
            let moved = position.saturating_sub(before) as f64;
            track.pace = track.pace.max(moved / passed.as_secs_f64());
            track.from = (now, position);
        }
        self.position = position;
    }

    /// Takes in that it was over by `now`.
    pub(in crate::progress) fn ends(&mut self, end: End, now: Instant) {
        let unseen = self
            .track
            .map(|track| (track.pace, now.saturating_duration_since(track.seen)));
        self.at_most = unseen.map(|(pace, unseen)| {
            let reach = migration::at_most(self.position, Some(pace), unseen);
            reach.saturating_add(PIECES)
        });
        self.end = Some(end);
        self.ended = Some(now);
        self.ended_at = Some(SystemTime::now());
        self.lately = self.ended_at;
    }

    /// What tells which migration it was made by, that of a volume of `size` bytes.
    pub(in crate::progress) fn facts(&self, size: u64) -> Facts<'_> {
        let there = self.ends.as_ref().and_then(|ends| ends.bytes);
        let size = there
            .filter(|&there| there > 0)
            .map_or(size, |there| there.min(size));
        Facts {
            begun: self.begun,
            ended: self.ended_at,
            cut_short: self.moves && self.at_most.is_some_and(|most| most < size),
            settled: self.settled,
            host: self.host.as_deref(),
            updated_at: self.updated_at,
        }
    }

    /// How it ended that was found closed `now`. It is through, unless even at several times its pace the
    /// rest was not due since the last look: when a copy fails, cinder-volume closes its files as well.
    pub(in crate::progress) fn closed(&self, now: Instant) -> End {
        let bytes = self.ends.as_ref().and_then(|ends| ends.bytes);
        let moved = self.track.filter(|track| track.pace > 0.0);
        let (Some(bytes), Some(track)) = (bytes, moved) else {
            return End::Closed;
        };
        let unseen = now.saturating_duration_since(track.seen).as_secs_f64();
        // Far below 2^53, so nothing is lost in the conversion.
        let since = (MARGIN * track.pace * unseen) as u64;
        let reach = self.position.saturating_add(since).saturating_add(PIECES);
        if reach < bytes {
            End::Early
        } else {
            End::Closed
        }
    }
}
