//! Copies through open files seen so far, and what they mean for the answer. Pure.

use std::cmp::Reverse;

use tokio::time::Instant;
use uuid::Uuid;

use super::copy::{Ends, FileCopy, Lone};
use super::open_files::{FileState, OpenFile, Place};
use super::pairs::{Pair, pairs};
use crate::progress::device::{Hardware, Identity};
use crate::progress::journal::{self, EndedCopies};
use crate::progress::memory::copy_store::{CopyRecord, CopyStore, MEMORY_LIMIT};
use crate::progress::migration::{self, MadeBy};
use crate::progress::proc::process::Ticks;
use crate::progress::verdict::{
    self, CopyVerdict, WipesSeen, may_be_all_of, nothing_seen, sizes_of,
};
use crate::progress::{Answer, Question};

/// How many single files are remembered that may be an end of a copy.
pub(in crate::progress) const LONE_LIMIT: usize = 256;

/// The paths of a call, looked for among open files.
#[derive(Debug, Default)]
pub(in crate::progress) struct Wanted {
    /// `src_path` of the call.
    pub source: Option<Target>,
    /// `dest_path` of the call.
    pub destination: Option<Target>,
}

/// A path of the call.
#[derive(Debug)]
pub(in crate::progress) struct Target {
    /// Its names.
    pub identity: Identity,
    /// File system and inode, if it exists.
    pub place: Option<Place>,
}

impl Target {
    fn is(&self, file: &OpenFile) -> bool {
        self.identity.same_as(&file.identity) || (self.place.is_some() && self.place == file.place)
    }
}

/// The file whose position tells most about the volume's copy: one written at the call's `dest_path`, else one with the
/// volume's name that is only written, else one read at `src_path`, else one with the volume's name that is read.
pub(in crate::progress) fn best<'a>(
    files: &'a [OpenFile],
    question: &Question,
    wanted: &Wanted,
) -> Option<&'a OpenFile> {
    let named = |file: &OpenFile| file.identity.is_of(question);
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

/// All copies through open files, in the order in which they were found.
#[derive(Debug, Default)]
pub(in crate::progress) struct FileCopies {
    copies: CopyStore<u64, FileCopy>,
    /// Single files that may be an end of a volume's copy.
    lone: CopyStore<u64, FileCopy>,
    /// How copies have ended.
    pub ended: EndedCopies,
    /// The number of the next one.
    next: u64,
    /// When the last complete sweep began.
    swept: Option<Ticks>,
}

impl FileCopies {
    /// Restores what an earlier run of the daemon saved.
    pub(in crate::progress) fn restored(saved: Vec<FileCopy>) -> Self {
        let mut all = Self::default();
        for copy in saved {
            all.push(copy);
        }
        all
    }

    /// The same, but finds nothing by index.
    #[cfg(test)]
    pub(in crate::progress) fn unindexed(mut self) -> Self {
        self.copies.unindexed = true;
        self
    }

    /// The numbers of all copies and single files.
    pub(in crate::progress) fn numbers(&self) -> Vec<u64> {
        let mut numbers = self.lone.keys();
        numbers.extend(self.copies.keys());
        numbers
    }

    /// These copies and files, to be saved.
    pub(in crate::progress) fn saved(&self, numbers: &[u64]) -> Vec<FileCopy> {
        let mut saved = self.lone.saved(numbers);
        saved.extend(self.copies.saved(numbers));
        saved
    }

    pub(in crate::progress) fn is_empty(&self) -> bool {
        self.copies.is_empty() && self.lone.is_empty()
    }

    /// Another number when there is something new to save.
    pub(in crate::progress) fn revision(&self) -> u64 {
        self.copies.revision().wrapping_add(self.lone.revision())
    }

    /// Forgets copies that are over for long and were never asked about.
    pub(in crate::progress) fn forget(&mut self) {
        self.copies.forget();
        self.lone.forget();
    }

    /// Remembers the file found for a volume, unless it was closed since it was listed.
    pub(in crate::progress) fn add(
        &mut self,
        file: &OpenFile,
        listed: Instant,
        question: &Question,
    ) -> Option<FileCopy> {
        let candidates = self.copies.candidates(question, &[]).into_iter().rev();
        let mut candidates = candidates.map(|(_, copy)| copy);
        let known = candidates.find(|copy| copy.is(file) && copy.is_of(question));
        match known {
            Some(copy) if copy.runs() => return Some(copy.clone()),
            Some(copy) if copy.ended.is_some_and(|ended| ended >= listed) => return None,
            _ => {}
        }
        let copy = FileCopy::asked_for(question, file, listed);
        journal::files_started(&copy, file.identity.path());
        let number = self.push(copy);
        self.copies.get(number).cloned()
    }

    /// Whether a running copy with `file` as its destination is known, together with the size of its source.
    pub(super) fn knows_all_of(&self, file: &OpenFile) -> bool {
        let copy = self.pair(file, None);
        copy.is_some_and(|(_, copy)| copy.source_bytes().is_some())
    }

    /// Remembers a copy between two files, found without a question, unless it is known, or was closed since it was
    /// listed.
    pub(super) fn notice(&mut self, pair: Pair<'_>, bytes: Option<u64>, listed: Instant) {
        let file = pair.destination;
        if let Some((number, _)) = self.pair(file, Some(listed)) {
            self.copies.update(number, |copy| {
                if let Some(ends) = copy.file.ends.as_mut().filter(|_| copy.end.is_none()) {
                    ends.bytes = bytes.or(ends.bytes);
                }
            });
            return;
        }
        let ends = Ends {
            source: pair.source.identity.clone(),
            destination: file.identity.clone(),
            bytes,
        };
        let copy = FileCopy::between(ends, file, listed, self.swept);
        journal::files_started(&copy, file.identity.path());
        self.push(copy);
    }

    /// Takes in that a sweep that began at `begun` has seen every file.
    pub(super) fn swept(&mut self, begun: Ticks) {
        self.swept = Some(begun);
    }

    /// Remembers the files that may be an end of a copy whose other end cannot be seen: a read disk without a name,
    /// or a written file for which no read file in step was found.
    pub(super) fn suspect(&mut self, files: &[OpenFile], listed: Instant) {
        let pairs = pairs(files);
        let written_in_step = |file: &OpenFile| {
            let same =
                |pair: &Pair<'_>| (pair.destination.id, pair.destination.fd) == (file.id, file.fd);
            pairs.iter().any(same)
        };
        for file in files {
            let reads =
                file.reads && file.identity.is_unnamed() && (file.position > 0 || !file.moves);
            let writes = file.writes
                && file.moves
                && file.position > 0
                && file.identity.looks_like_a_volume()
                && !written_in_step(file);
            let late = |copy: &FileCopy| copy.ended.is_none_or(|ended| ended >= listed);
            let known = |copy: &FileCopy| copy.is(file) && late(copy);
            if !(reads || writes) || self.lone.all().any(|(_, copy)| known(copy)) {
                continue;
            }
            let lone = Lone {
                identity: file.identity.clone(),
                writes: writes && !reads,
            };
            self.push(FileCopy::lone(lone, file, listed));
        }
    }

    /// Every copy, and its number.
    #[cfg(test)]
    pub(in crate::progress) fn copies(&self) -> impl Iterator<Item = (u64, &FileCopy)> {
        self.copies.all()
    }

    /// Copies of unnamed disks that one of `records` has a number of, each with its number here.
    pub(in crate::progress) fn meeting(&self, records: &[&Hardware]) -> Vec<(u64, &FileCopy)> {
        self.copies.meeting(records)
    }

    /// Running copies of unnamed disks, each with its number here.
    pub(in crate::progress) fn running_unnamed(&self) -> Vec<(u64, &FileCopy)> {
        self.copies.running_unnamed()
    }

    /// The copies attributed to the volume of this id, or whose names hold one of these ids.
    pub(in crate::progress) fn of_volume(&self, volume_id: &str, ids: &[Uuid]) -> Vec<&FileCopy> {
        let copies = self.copies.of_volume(volume_id, ids).into_iter();
        copies.map(|(_, copy)| copy).collect()
    }

    /// Changes one copy, if it is remembered.
    pub(in crate::progress) fn update<T>(
        &mut self,
        number: u64,
        work: impl FnOnce(&mut FileCopy) -> T,
    ) -> Option<T> {
        self.copies.update(number, work)
    }

    /// Whether a file that is or was open may be an end of the volume's copy.
    fn may_have_begun(&self, question: &Question, requested: Option<Ticks>) -> bool {
        let template = question.template();
        let of_this = |copy: &FileCopy| {
            migration::may_be_of_this(copy.evidence(question.size), question, requested)
        };
        let between = |copy: &FileCopy| {
            copy.notes.volume.is_none()
                && copy.file.ends.as_ref().is_some_and(|ends| {
                    may_be_all_of(ends.bytes, question)
                        && ends.source.may_be_unnamed_volume(&template)
                })
        };
        let lone = |copy: &FileCopy| {
            // The source of a copy whose volume is known is that volume.
            let is_its_source = |other: &FileCopy, lone: &Lone| {
                let source = other.source().filter(|_| other.notes.volume.is_some());
                other.file.id == copy.file.id
                    && source.is_some_and(|source| source.same_as(&lone.identity))
            };
            let known = |other: &FileCopy| {
                let lone = copy.file.lone.as_ref();
                other.is_same_file(copy) || lone.is_some_and(|lone| is_its_source(other, lone))
            };
            let may_be = |lone: &Lone| {
                let bytes = lone.identity.bytes();
                if lone.writes {
                    bytes.is_none_or(|bytes| bytes >= question.size)
                        && (lone.identity.is_device()
                            || lone.identity.volume_id(&template).is_some())
                } else {
                    // An array may make a disk larger than was asked for.
                    (bytes.is_some_and(|bytes| bytes > question.size)
                        || may_be_all_of(bytes, question))
                        && lone.identity.may_be_unnamed_volume(&template)
                }
            };
            let between = || self.copies.all().any(|(_, other)| known(other));
            copy.file.lone.as_ref().is_some_and(may_be) && !between()
        };
        let mut unclaimed = self
            .copies
            .unclaimed(sizes_of(question), migration::earliest(requested))
            .into_iter();
        let mut all_lone = self.lone.all();
        unclaimed.any(|(_, copy)| of_this(copy) && between(copy))
            || all_lone.any(|(_, copy)| of_this(copy) && lone(copy))
    }

    /// The copy with `file` as its destination that runs, or has ended since `listed`.
    fn pair(&self, file: &OpenFile, listed: Option<Instant>) -> Option<(u64, &FileCopy)> {
        self.copies.all().rev().find(|(_, copy)| {
            let late = copy.ended.zip(listed);
            let there = copy.runs() || late.is_some_and(|(ended, listed)| ended >= listed);
            copy.file.ends.is_some() && copy.is(file) && there
        })
    }

    /// Stores a copy and returns its number. Where all are running the oldest makes room: a file that is open now is
    /// worth more than one that was open first.
    fn push(&mut self, copy: FileCopy) -> u64 {
        let (store, limit) = match copy.file.lone {
            Some(_) => (&mut self.lone, LONE_LIMIT),
            None => (&mut self.copies, MEMORY_LIMIT),
        };
        if !store.make_room(limit)
            && let Some(&oldest) = store.keys().first()
        {
            store.remove(oldest);
        }
        let number = self.next;
        self.next += 1;
        store.insert(number, copy);
        number
    }

    /// The copies and single files that were open at the last look.
    pub(in crate::progress) fn open(&self) -> Vec<FileCopy> {
        let all = self.copies.all().chain(self.lone.all());
        let open = all.filter(|(_, copy)| copy.runs());
        open.map(|(_, copy)| copy.clone()).collect()
    }

    /// Those of them with two known ends.
    pub(in crate::progress) fn running(&self) -> Vec<FileCopy> {
        let mut open = self.open();
        open.retain(|copy| copy.file.ends.is_some());
        open
    }

    /// The volume's running copy.
    pub(super) fn open_of(&self, question: &Question) -> Option<FileCopy> {
        let latest = self.latest(question, CopyRecord::runs);
        latest.map(|(_, copy)| copy.clone())
    }

    /// Takes in the state of a file, wherever it is remembered.
    pub(in crate::progress) fn note(&mut self, seen: &FileCopy, state: FileState) {
        let now = Instant::now();
        for store in [&mut self.copies, &mut self.lone] {
            let same = store
                .all()
                .filter(|(_, copy)| copy.runs() && copy.is_same_file(seen));
            let same: Vec<u64> = same.map(|(number, _)| number).collect();
            for number in same {
                let end = store.update(number, |copy| {
                    copy.note(state, now);
                    let is_copy = copy.file.lone.is_none();
                    (is_copy && !copy.runs()).then(|| journal::files_ended(copy))
                });
                if let Some(end) = end.flatten() {
                    self.ended.count(end);
                }
            }
        }
    }

    /// The verdict on the volume as things stand, and a note of what its object said.
    /// `requested` is when this migration was asked for, if that request passed through this daemon.
    pub(in crate::progress) fn decide(
        &mut self,
        question: &Question,
        requested: Option<Ticks>,
    ) -> CopyVerdict {
        let current = self.current(question, requested);
        let verdict = match current {
            Some((_, copy)) => verdict::of_copy(copy, WipesSeen::default(), question, requested),
            None if question.migrating && self.may_have_begun(question, requested) => {
                CopyVerdict::Unseen(Answer::Unknown)
            }
            None => CopyVerdict::Unseen(nothing_seen(question)),
        };
        let current = current.map(|(number, _)| number);
        let candidates = self.copies.candidates(question, &[]).into_iter();
        let mine = candidates.filter(|(_, copy)| copy.is_of(question));
        let mine: Vec<u64> = mine.map(|(number, _)| number).collect();
        for number in mine {
            self.copies.update(number, |copy| {
                if copy.runs() {
                    copy.notes.goes_on(question);
                } else if !question.migrating {
                    copy.notes.migration_over = true;
                } else if current == Some(number) && copy.is_recent() {
                    copy.notes.completes(question);
                }
            });
        }
        verdict
    }

    /// The running copy, else the last one, unless that belongs to an earlier migration.
    fn current(&self, question: &Question, requested: Option<Ticks>) -> Option<(u64, &FileCopy)> {
        let made_by =
            |copy: &FileCopy| migration::made_by(copy.evidence(question.size), question, requested);
        self.latest(question, CopyRecord::runs).or_else(|| {
            self.latest(question, |_| true)
                .filter(|(_, copy)| made_by(copy) != MadeBy::Earlier)
        })
    }

    fn latest(
        &self,
        question: &Question,
        wanted: impl Fn(&FileCopy) -> bool,
    ) -> Option<(u64, &FileCopy)> {
        let candidates = self.copies.candidates(question, &[]).into_iter().rev();
        candidates
            .filter(|(_, copy)| copy.is_of(question))
            .find(|(_, copy)| wanted(copy))
    }
}
