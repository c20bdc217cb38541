//! Copies through open files seen so far, and what they mean for the answer. Pure.

use std::cmp::Reverse;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::device::Identity;
use super::fdinfo::Fd;
use super::host_based::{Verdict, percent};
use super::memory::MEMORY_LIMIT;
use super::open_files::{Fate, Mark, OpenFile, Place};
use super::process::ProcessId;
use super::{Answer, Question};

/// A file of a volume's that was seen open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FileCopy {
    /// Who had it open.
    pub id: ProcessId,
    /// As what.
    pub fd: Fd,
    /// What the kernel said of it.
    pub mark: Mark,
    /// The volume asked for when it was found.
    volume: String,
    position: u64,
    /// Whether its position tells anything.
    moves: bool,
    end: Option<End>,
    /// When it was seen to have ended, by this daemon.
    #[serde(skip)]
    ended: Option<Instant>,
    /// Where the volume was, by its object, when it was found.
    #[serde(default)]
    host: Option<String>,
    /// Whether the volume was asked for afterwards, when no migration went on any more.
    settled: bool,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum End {
    /// Its process closed it and went on, as cinder-volume does when all is copied.
    Closed,
    /// Its process is gone.
    Gone,
}

/// What is looked for among open files.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// `src_path` of the call.
    pub source: Option<Target>,
    /// `dest_path` of the call.
    pub destination: Option<Target>,
}

/// A path of the call.
#[derive(Debug)]
pub(super) struct Target {
    /// What it is called.
    pub identity: Identity,
    /// Where it is.
    pub place: Option<Place>,
}

impl Target {
    fn is(&self, file: &OpenFile) -> bool {
        self.identity.same_as(&file.identity) || (self.place.is_some() && self.place == file.place)
    }
}

/// The file that tells most about the volume's copy: what is written at the path asked for, then what
/// bears the volume's name and is only written, then what is read.
pub(super) fn best<'a>(
    files: &'a [OpenFile],
    question: &Question,
    wanted: &Wanted,
) -> Option<&'a OpenFile> {
    let named = |file: &OpenFile| {
        question
            .names
            .iter()
            .any(|name| file.identity.names_volume(name))
    };
    let rank = |file: &OpenFile| {
        let is = |target: &Option<Target>| target.as_ref().is_some_and(|target| target.is(file));
        match () {
            () if file.writes && is(&wanted.destination) => Some(0),
            () if file.writes && !file.reads && named(file) => Some(1),
            () if file.reads && is(&wanted.source) => Some(2),
            () if file.reads && named(file) => Some(3),
            () => None,
        }
    };
    files
        .iter()
        .filter_map(|file| Some((rank(file)?, file.id, file)))
        // A child that inherited the file is younger than whoever opened it.
        .min_by_key(|&(rank, id, file)| (rank, id, Reverse(file.position)))
        .map(|(_, _, file)| file)
}

/// All such copies.
#[derive(Debug, Default)]
pub(super) struct FileCopies {
    copies: Vec<FileCopy>,
}

impl FileCopies {
    /// Takes up what an earlier run of the daemon has written down.
    pub(super) fn restored(copies: Vec<FileCopy>) -> Self {
        Self { copies }
    }

    /// All there is to write down.
    pub(super) fn saved(&self) -> Vec<FileCopy> {
        self.copies.clone()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }

    /// Changes when there is something new to write down.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for copy in &self.copies {
            (copy.id, copy.fd, copy.position, copy.end, copy.settled).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Remembers the file found for a volume, unless it was seen to be closed since it was listed.
    pub(super) fn add(
        &mut self,
        file: &OpenFile,
        listed: Instant,
        question: &Question,
    ) -> Option<FileCopy> {
        let known = self.copies.iter().rev().find(|copy| {
            (copy.id, copy.fd, copy.mark) == (file.id, file.fd, file.mark)
                && copy.volume == question.volume_id
        });
        match known {
            Some(copy) if copy.end.is_none() => return Some(copy.clone()),
            Some(copy) if copy.ended.is_some_and(|ended| ended >= listed) => return None,
            _ => {}
        }
        if self.copies.len() >= MEMORY_LIMIT {
            // The oldest that is over makes room, and where none is, the oldest of all.
            let oldest = self.copies.iter().position(|copy| copy.end.is_some());
            self.copies.remove(oldest.unwrap_or(0));
        }
        tracing::info!(
            volume_id = question.volume_id,
            pid = file.id.pid,
            fd = file.fd,
            path = file.identity.path(),
            "found the volume open"
        );
        let copy = FileCopy {
            id: file.id,
            fd: file.fd,
            mark: file.mark,
            volume: question.volume_id.clone(),
            position: file.position,
            moves: file.moves,
            end: None,
            ended: None,
            host: question.host.clone(),
            settled: false,
        };
        self.copies.push(copy.clone());
        Some(copy)
    }

    /// The copies that went on when they were last looked at.
    pub(super) fn open(&self) -> Vec<FileCopy> {
        let open = self.copies.iter().filter(|copy| copy.end.is_none());
        open.cloned().collect()
    }

    /// The volume's copy that goes on.
    pub(super) fn open_of(&self, question: &Question) -> Option<FileCopy> {
        self.latest(question, |copy| copy.end.is_none()).cloned()
    }

    /// Takes in what became of a copy.
    pub(super) fn note(&mut self, seen: &FileCopy, fate: Fate) {
        let same = |copy: &&mut FileCopy| {
            copy.end.is_none() && (copy.id, copy.fd, copy.mark) == (seen.id, seen.fd, seen.mark)
        };
        for copy in self.copies.iter_mut().filter(same) {
            copy.end = match fate {
                Fate::Open(position) => {
                    copy.position = position;
                    None
                }
                Fate::Closed => Some(End::Closed),
                Fate::Gone => Some(End::Gone),
            };
            if copy.end.is_some() {
                copy.ended = Some(Instant::now());
                tracing::info!(
                    volume_id = copy.volume,
                    pid = copy.id.pid,
                    fd = copy.fd,
                    position = copy.position,
                    end = ?copy.end,
                    "the volume is open no more"
                );
            }
        }
    }

    /// What is to be said of the volume as things stand, and a note of what its object said.
    pub(super) fn decide(&mut self, question: &Question) -> Verdict {
        let verdict = self.verdict(question);
        if !question.migrating {
            let over = self.copies.iter_mut().filter(|copy| copy.end.is_some());
            for copy in over.filter(|copy| copy.volume == question.volume_id) {
                copy.settled = true;
            }
        }
        verdict
    }

    fn verdict(&self, question: &Question) -> Verdict {
        let copy = self
            .latest(question, |copy| copy.end.is_none())
            .or_else(|| {
                let past = |copy: &FileCopy| {
                    question.migrating
                        && (copy.settled || question.has_moved_from(copy.host.as_deref()))
                };
                self.latest(question, |copy| copy.end.is_some() && !past(copy))
            });
        match copy {
            Some(copy) if copy.end == Some(End::Closed) => Verdict::Seen(Answer::Percent(100)),
            Some(copy) if !copy.moves => Verdict::Seen(Answer::Unknown),
            Some(copy) => Verdict::Seen(percent(copy.position, question.size)),
            None if question.attached => Verdict::Unseen(Answer::Unknown),
            None => Verdict::Unseen(Answer::Percent(0)),
        }
    }

    fn latest(&self, question: &Question, wanted: impl Fn(&FileCopy) -> bool) -> Option<&FileCopy> {
        self.copies
            .iter()
            .rev()
            .find(|copy| copy.volume == question.volume_id && wanted(copy))
    }
}
