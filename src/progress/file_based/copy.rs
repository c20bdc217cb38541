//! One copy through open files: what is remembered of it. Pure.

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

/// What may have been written in one go after the last look: some of cinder's pieces, which have 4 MiB.
const PIECES: u64 = 16 << 20;

/// A file of a volume's that was seen open.
#[derive(Debug, Clone, PartialEq, Hash, Serialize, Deserialize)]
pub(in crate::progress) struct FileCopy {
    /// What it is.
    #[serde(flatten)]
    pub file: FileFacts,
    /// How far it was seen.
    #[serde(flatten)]
    pub seen: Observation,
    /// What tells its migration.
    #[serde(flatten)]
    pub notes: MigrationNotes,
    /// How it ended; none while it is open. A dd ends in one way only, and this in three.
    pub end: Option<End>,
    /// When it was seen to have ended, by this daemon.
    #[serde(skip)]
    pub ended: Unsaved<Option<Instant>>,
}

/// What is known of an open file once it is found, but for the size of what it is copied from.
#[derive(Debug, Clone, PartialEq, Hash, Serialize, Deserialize)]
pub(in crate::progress) struct FileFacts {
    /// Who had it open.
    pub id: ProcessId,
    /// As what.
    pub fd: Fd,
    /// What the kernel said of it.
    pub mark: Mark,
    /// What is copied where, if both are known.
    #[serde(default)]
    pub ends: Option<Ends>,
    /// What is known of it, if that is not enough to call it a copy.
    #[serde(default)]
    pub lone: Option<Lone>,
    /// When it was first seen. Nothing tells when it was opened.
    #[serde(default)]
    pub begun: Option<Ticks>,
    /// When it was not there yet, though it was looked for.
    #[serde(default)]
    pub not_before: Option<Ticks>,
    /// Whether its position tells anything.
    pub moves: bool,
}

/// The two ends of a copy.
#[derive(Debug, Clone, PartialEq, Hash, Serialize, Deserialize)]
pub(in crate::progress) struct Ends {
    /// What is read.
    pub source: Identity,
    /// What is written; its descriptor is the one that is followed.
    pub destination: Identity,
    /// How large the source is, where that can be told.
    pub bytes: Option<u64>,
}

/// One file that may be an end of a volume's copy whose other end cannot be seen, such as an image in Ceph.
#[derive(Debug, Clone, PartialEq, Hash, Serialize, Deserialize)]
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

impl FileCopy {
    /// One that was found when its volume was asked for.
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

    /// One that was found though nobody asked.
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

    /// One of which a single end is to be seen.
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

    /// Whether this is the file it was found by.
    pub(in crate::progress) fn is(&self, file: &OpenFile) -> bool {
        let known = &self.file;
        (known.id, known.fd, known.mark) == (file.id, file.fd, file.mark)
    }

    /// Whether both are one open file.
    pub(in crate::progress) fn is_same_file(&self, other: &Self) -> bool {
        let (own, other) = (&self.file, &other.file);
        (own.id, own.fd, own.mark) == (other.id, other.fd, other.mark)
    }

    /// Whether it is the volume's that is asked about.
    pub(in crate::progress) fn is_of(&self, question: &Question) -> bool {
        match &self.notes.volume {
            Some(volume) => *volume == question.volume_id,
            None => self.source().is_some_and(|source| source.is_of(question)),
        }
    }

    /// Takes in what became of it by `now`.
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

    /// What it writes is the copy, whose name is of no volume that is asked about.
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

    /// It may have been open for a while when it was first seen.
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

    /// Its process tells by closing it and going on.
    fn reached(&self, _size: u64) -> bool {
        self.end == Some(End::Closed)
    }

    /// A position that stands still tells nothing.
    fn by_position(&self, size: u64) -> Answer {
        if self.file.moves {
            percent(self.seen.position.unwrap_or(0), size)
        } else {
            Answer::Unknown
        }
    }
}
