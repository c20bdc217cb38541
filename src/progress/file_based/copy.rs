//! One copy through open files, as it is remembered. Pure.

use tokio::time::Instant;

use serde::{Deserialize, Serialize};

use super::open_files::{FileState, Mark, OpenFile};
use crate::progress::device::Identity;
use crate::progress::memory::copy_store::CopyRecord;
use crate::progress::memory::unsaved::Unsaved;
use crate::progress::migration::MigrationNotes;
use crate::progress::pace::Observation;
use crate::progress::proc::fdinfo::Fd;
use crate::progress::proc::process::{self, ProcessId, Ticks};
use crate::progress::verdict::percent;
use crate::progress::{Answer, Question};

/// Bytes that may have been written at once after the last look: four of cinder's pieces of 4 MiB.
const PIECES: u64 = 16 << 20;

/// A copy through open files, or a single file that may be one end of a copy.
#[derive(Debug, Clone, PartialEq, Hash, Serialize, Deserialize)]
pub(in crate::progress) struct FileCopy {
    /// The file that is followed.
    #[serde(flatten)]
    pub file: FileFacts,
    /// How far it was seen.
    #[serde(flatten)]
    pub seen: Observation,
    /// What tells which migration made it.
    #[serde(flatten)]
    pub notes: MigrationNotes,
    /// How it ended; none while it is open.
    pub end: Option<End>,
    /// When its end was seen; none if that was before a restart.
    #[serde(skip)]
    pub ended: Unsaved<Option<Instant>>,
}

/// Facts of an open file. None changes after it is found, except `ends.bytes`.
#[derive(Debug, Clone, PartialEq, Hash, Serialize, Deserialize)]
pub(in crate::progress) struct FileFacts {
    /// The process that has it open.
    pub id: ProcessId,
    /// The descriptor there.
    pub fd: Fd,
    /// Tells it from a file that gets the same descriptor later.
    pub mark: Mark,
    /// Source and destination, if both are known.
    #[serde(default)]
    pub ends: Option<Ends>,
    /// The file alone, if no second one makes it a copy.
    #[serde(default)]
    pub lone: Option<Lone>,
    /// When it was first seen. Nothing tells when it was opened.
    #[serde(default)]
    pub begun: Option<Ticks>,
    /// When the last complete sweep before that began: the copy was not open then.
    #[serde(default)]
    pub not_before: Option<Ticks>,
    /// Whether its position grows with the copy.
    pub moves: bool,
}

/// The two ends of a copy.
#[derive(Debug, Clone, PartialEq, Hash, Serialize, Deserialize)]
pub(in crate::progress) struct Ends {
    /// What is read.
    pub source: Identity,
    /// What is written; its descriptor is the one that is followed.
    pub destination: Identity,
    /// Size of the source, if known.
    pub bytes: Option<u64>,
}

/// A file that may be one end of a volume's copy. The other end cannot be seen, such as an image in Ceph.
#[derive(Debug, Clone, PartialEq, Hash, Serialize, Deserialize)]
pub(in crate::progress) struct Lone {
    /// Its names.
    pub identity: Identity,
    /// Whether it is written, rather than read.
    pub writes: bool,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(in crate::progress) enum End {
    /// The process closed it and lives on, as cinder-volume does when all is copied.
    Closed,
    /// The process closed it far from the end, as cinder-volume does when something failed.
    Early,
    /// The process is gone.
    Gone,
}

impl FileCopy {
    /// A file found when its volume was asked for.
    pub(in crate::progress) fn asked_for(
        question: &Question,
        file: &OpenFile,
        listed: Instant,
    ) -> Self {
        let mut copy = Self::new(file, listed);
        copy.notes.volume = Some(question.volume_id.clone());
        copy.notes.goes_on(question);
        copy
    }

    /// A copy found by a sweep, without a question. `not_before` is when the sweep before began.
    pub(in crate::progress) fn between(
        ends: Ends,
        file: &OpenFile,
        listed: Instant,
        not_before: Option<Ticks>,
    ) -> Self {
        let mut copy = Self::new(file, listed);
        copy.file.not_before = not_before;
        copy.file.ends = Some(ends);
        copy
    }

    /// A file without a second end in sight.
    pub(in crate::progress) fn lone(lone: Lone, file: &OpenFile, listed: Instant) -> Self {
        let mut copy = Self::new(file, listed);
        copy.file.lone = Some(lone);
        copy
    }

    fn new(file: &OpenFile, listed: Instant) -> Self {
        let mut seen = Observation::default();
        seen.goes_on_at(file.position, listed);
        Self {
            file: FileFacts {
                id: file.id,
                fd: file.fd,
                mark: file.mark,
                ends: None,
                lone: None,
                begun: Some(process::now()),
                not_before: None,
                moves: file.moves,
            },
            seen,
            notes: MigrationNotes::default(),
            end: None,
            ended: Unsaved::default(),
        }
    }

    /// Whether `file` is the file that is followed.
    pub(in crate::progress) fn is(&self, file: &OpenFile) -> bool {
        let known = &self.file;
        (known.id, known.fd, known.mark) == (file.id, file.fd, file.mark)
    }

    /// Whether both follow the same open file.
    pub(in crate::progress) fn is_same_file(&self, other: &Self) -> bool {
        let (own, other) = (&self.file, &other.file);
        (own.id, own.fd, own.mark) == (other.id, other.fd, other.mark)
    }

    /// Whether it is a copy of the volume asked about.
    pub(in crate::progress) fn is_of(&self, question: &Question) -> bool {
        match &self.notes.volume {
            Some(volume) => *volume == question.volume_id,
            None => self.source().is_some_and(|source| source.is_of(question)),
        }
    }

    /// Takes in the state of its file at `now`.
    pub(in crate::progress) fn note(&mut self, state: FileState, now: Instant) {
        if let FileState::Open(position) = state {
            self.seen.goes_on_at(position, now);
            return;
        }
        if self.file.moves {
            self.seen.ends(now, PIECES);
        }
        self.end = Some(match state {
            FileState::Closed if self.was_closed_early() => End::Early,
            FileState::Closed => End::Closed,
            _ => End::Gone,
        });
        self.ended.0 = Some(now);
        self.notes.ends();
    }

    /// Whether it was closed before all was copied: only if, even at several times its pace, the rest could not be
    /// written since the last look. When a copy fails cinder-volume closes its files as well.
    fn was_closed_early(&self) -> bool {
        let cut_short = |bytes| self.seen.was_cut_short(bytes);
        self.seen.has_moved() && self.source_bytes().is_some_and(cut_short)
    }
}

impl CopyRecord for FileCopy {
    fn copies(&self) -> bool {
        true
    }

    fn source(&self) -> Option<&Identity> {
        self.file.ends.as_ref().map(|ends| &ends.source)
    }

    /// Not indexed by destination: nobody asks about the new volume.
    fn destination(&self) -> Option<&Identity> {
        None
    }

    fn observation(&self) -> &Observation {
        &self.seen
    }

    fn notes(&self) -> &MigrationNotes {
        &self.notes
    }

    fn begun(&self) -> Option<Ticks> {
        self.file.begun
    }

    /// `begun` does not tell: the file may have been open for a while when it was first seen.
    fn began_since(&self, request: Ticks) -> bool {
        self.file.not_before.is_some_and(|then| then >= request)
    }

    fn runs(&self) -> bool {
        self.end.is_none()
    }

    fn ended(&self) -> Option<Instant> {
        *self.ended
    }

    fn source_bytes(&self) -> Option<u64> {
        self.file.ends.as_ref().and_then(|ends| ends.bytes)
    }

    fn bytes(&self) -> Option<u64> {
        self.source_bytes()
    }

    /// Complete if the process closed the file and lives on.
    fn reached(&self, _size: u64) -> bool {
        self.end == Some(End::Closed)
    }

    /// Unknown where the position does not grow with the copy, as qemu-img's.
    fn by_position(&self, size: u64) -> Answer {
        if self.file.moves {
            percent(self.seen.position.unwrap_or(0), size)
        } else {
            Answer::Unknown
        }
    }
}
