//! Copies through open files seen so far, and what they mean for the answer. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use super::copy::{End, Ends, FileCopy, Lone};
use super::open_files::{Fate, OpenFile, Place};
use super::pairs::{Pair, pairs};
use crate::progress::device::Identity;
use crate::progress::host_based::history::MEMORY_LIMIT;
use crate::progress::host_based::{Verdict, may_be_all_of, nothing_seen, percent};
use crate::progress::journal;
use crate::progress::migration::{self, MadeBy, is_recent};
use crate::progress::proc::process::Ticks;
use crate::progress::volume_index::VolumeIndex;
use crate::progress::{Answer, Question};

/// How many files are remembered that may be an end of a copy.
const LONE_LIMIT: usize = 256;

/// What is looked for among open files.
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

/// All such copies, by the order in which they were found.
#[derive(Debug, Default)]
pub(in crate::progress) struct FileCopies {
    copies: BTreeMap<u64, FileCopy>,
    /// Files that may be an end of a volume's copy.
    lone: Vec<FileCopy>,
    index: VolumeIndex<u64>,
    /// The number of the next one.
    next: u64,
    /// Counts the changes that are worth writing down.
    revision: u64,
}

impl FileCopies {
    /// Takes up what an earlier run of the daemon has written down.
    pub(in crate::progress) fn restored(saved: Vec<FileCopy>) -> Self {
        let mut copies = Self::default();
        let (lone, between): (Vec<_>, Vec<_>) =
            saved.into_iter().partition(|copy| copy.lone.is_some());
        for copy in between {
            copies.insert(copy);
        }
        copies.lone = lone;
        copies.lone.truncate(LONE_LIMIT);
        copies
    }

    /// The numbers of all that is remembered.
    pub(in crate::progress) fn numbers(&self) -> Vec<u64> {
        self.copies.keys().copied().collect()
    }

    /// The files that may be an end of a copy, to be written down with the copies.
    pub(in crate::progress) fn saved_lone(&self) -> Vec<FileCopy> {
        self.lone.clone()
    }

    /// What there is to write down of these.
    pub(in crate::progress) fn saved(&self, numbers: &[u64]) -> Vec<FileCopy> {
        let copies = numbers.iter().filter_map(|number| self.copies.get(number));
        copies.cloned().collect()
    }

    pub(in crate::progress) fn is_empty(&self) -> bool {
        self.copies.is_empty() && self.lone.is_empty()
    }

    /// Another number when there is something new to write down.
    pub(in crate::progress) fn revision(&self) -> u64 {
        self.revision
    }

    /// Forgets what nobody will miss.
    pub(in crate::progress) fn forget(&mut self) {
        let forgotten = self
            .copies
            .iter()
            .filter(|(_, copy)| copy.is_to_be_forgotten());
        let forgotten: Vec<u64> = forgotten.map(|(&number, _)| number).collect();
        for number in forgotten {
            self.remove(number);
        }
        let before = self.lone.len();
        self.lone.retain(|copy| !copy.is_to_be_forgotten());
        if self.lone.len() < before {
            self.revision += 1;
        }
    }

    /// All that may be the volume's, the oldest first: few, however much is remembered.
    fn candidates(&self, question: &Question) -> Vec<&FileCopy> {
        match self.index.of(question) {
            Some(numbers) => numbers
                .iter()
                .filter_map(|number| self.copies.get(number))
                .collect(),
            None => self.copies.values().collect(),
        }
    }

    fn insert(&mut self, mut copy: FileCopy) {
        copy.number = self.next;
        self.next += 1;
        self.index.add(copy.number, &copy.keys());
        self.copies.insert(copy.number, copy);
    }

    fn remove(&mut self, number: u64) {
        if let Some(copy) = self.copies.remove(&number) {
            self.index.remove(number, &copy.keys());
            self.revision += 1;
        }
    }

    /// Remembers the file found for a volume, unless it was seen to be closed since it was listed.
    pub(in crate::progress) fn add(
        &mut self,
        file: &OpenFile,
        listed: Instant,
        question: &Question,
    ) -> Option<FileCopy> {
        let mut candidates = self.candidates(question).into_iter().rev();
        let known = candidates.find(|copy| copy.is(file) && copy.is_of(question));
        match known {
            Some(copy) if copy.end.is_none() => return Some(copy.clone()),
            Some(copy) if copy.ended.is_some_and(|ended| ended >= listed) => return None,
            _ => {}
        }
        let copy = FileCopy::asked_for(question, file, listed);
        journal::files_started(&copy, file.identity.path());
        let number = self.push(copy);
        self.copies.get(&number).cloned()
    }

    /// Whether a copy between two ends is known that goes on with `file` as its destination, and how large
    /// it is.
    pub(super) fn knows_all_of(&self, file: &OpenFile) -> bool {
        self.pair(file, None)
            .and_then(|copy| copy.ends.as_ref())
            .is_some_and(|ends| ends.bytes.is_some())
    }

    /// Remembers a copy between two files that nobody has asked about, unless it is known, or was seen
    /// closed since it was listed.
    pub(super) fn notice(&mut self, pair: Pair<'_>, bytes: Option<u64>, listed: Instant) {
        let file = pair.destination;
        if self.pair(file, Some(listed)).is_some() {
            let same = |copy: &&mut FileCopy| copy.end.is_none() && copy.is(file);
            for copy in self.copies.values_mut().filter(same) {
                if let Some(ends) = &mut copy.ends {
                    ends.bytes = bytes.or(ends.bytes);
                }
            }
            return;
        }
        let ends = Ends {
            source: pair.source.identity.clone(),
            destination: file.identity.clone(),
            bytes,
        };
        let copy = FileCopy::between(ends, file, listed);
        journal::files_started(&copy, file.identity.path());
        self.push(copy);
    }

    /// Remembers the files that may be an end of a copy whose other end is not to be seen: a disk that nothing
    /// names and that is read, and what is written though nothing is read in step with it.
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
            if !(reads || writes) || self.lone.iter().any(known) {
                continue;
            }
            let lone = Lone {
                identity: file.identity.clone(),
                writes: writes && !reads,
            };
            if self.lone.len() >= LONE_LIMIT {
                let oldest = self.lone.iter().position(|copy| copy.end.is_some());
                self.lone.remove(oldest.unwrap_or(0));
            }
            self.lone.push(FileCopy::lone(lone, file, listed));
            self.revision += 1;
        }
    }

    /// Whether something is open, or was, that may be an end of the volume's copy.
    fn may_have_begun(&self, question: &Question, requested: Option<Ticks>) -> bool {
        let template = question.template();
        let of_this = |copy: &FileCopy| {
            migration::may_be_of_this(copy.facts(question.size), copy.lately, question, requested)
        };
        let between = |copy: &FileCopy| {
            copy.volume.is_none()
                && copy.ends.as_ref().is_some_and(|ends| {
                    ends.source.may_be_any(&template) && may_be_all_of(ends.bytes, question)
                })
        };
        let lone = |copy: &FileCopy| {
            let known = |other: &FileCopy| {
                (other.id, other.fd, other.mark) == (copy.id, copy.fd, copy.mark)
            };
            let may_be = |lone: &Lone| {
                let bytes = lone.identity.bytes();
                if lone.writes {
                    bytes.is_none_or(|bytes| bytes >= question.size)
                        && (lone.identity.is_device()
                            || lone.identity.volume_id(&template).is_some())
                } else {
                    // An array may make a disk larger than was asked for.
                    lone.identity.may_be_any(&template)
                        && (bytes.is_some_and(|bytes| bytes > question.size)
                            || may_be_all_of(bytes, question))
                }
            };
            copy.lone.as_ref().is_some_and(may_be) && !self.copies.values().any(known)
        };
        let unnamed = self.index.unnamed();
        let mut unnamed = unnamed.filter_map(|number| self.copies.get(&number));
        unnamed.any(|copy| between(copy) && of_this(copy))
            || self.lone.iter().any(|copy| lone(copy) && of_this(copy))
    }

    /// The copy between two ends that goes on with `file` as its destination, or has ended since `listed`.
    fn pair(&self, file: &OpenFile, listed: Option<Instant>) -> Option<&FileCopy> {
        self.copies.values().rev().find(|copy| {
            let late = copy.ended.zip(listed);
            let there = copy.end.is_none() || late.is_some_and(|(ended, listed)| ended >= listed);
            copy.ends.is_some() && copy.is(file) && there
        })
    }

    /// Takes in another, and tells its number.
    fn push(&mut self, copy: FileCopy) -> u64 {
        if self.copies.len() >= MEMORY_LIMIT {
            // The oldest that is over makes room, and where none is, the oldest of all.
            let over = self.copies.values().find(|copy| copy.end.is_some());
            let oldest = over.or(self.copies.values().next());
            if let Some(oldest) = oldest.map(|copy| copy.number) {
                self.remove(oldest);
            }
        }
        let number = self.next;
        self.insert(copy);
        self.revision += 1;
        number
    }

    /// The copies that went on when they were last looked at.
    pub(in crate::progress) fn open(&self) -> Vec<FileCopy> {
        let all = self.copies.values().chain(&self.lone);
        all.filter(|copy| copy.end.is_none()).cloned().collect()
    }

    /// Those of them between two ends.
    pub(in crate::progress) fn running(&self) -> Vec<FileCopy> {
        let between = |copy: &&FileCopy| copy.end.is_none() && copy.ends.is_some();
        self.copies.values().filter(between).cloned().collect()
    }

    /// The volume's copy that goes on.
    pub(super) fn open_of(&self, question: &Question) -> Option<FileCopy> {
        self.latest(question, |copy| copy.end.is_none()).cloned()
    }

    /// Takes in what became of a copy.
    pub(in crate::progress) fn note(&mut self, seen: &FileCopy, fate: Fate) {
        let same = |copy: &&mut FileCopy| {
            copy.end.is_none() && (copy.id, copy.fd, copy.mark) == (seen.id, seen.fd, seen.mark)
        };
        let now = Instant::now();
        let all = self.copies.values_mut().chain(&mut self.lone);
        for copy in all.filter(same) {
            if fate != Fate::Open(copy.position) {
                self.revision += 1;
            }
            match fate {
                Fate::Open(position) => copy.goes_on_at(position, now),
                Fate::Closed => copy.ends(copy.closed(now), now),
                Fate::Gone => copy.ends(End::Gone, now),
            }
            if copy.end.is_some() && copy.lone.is_none() {
                journal::files_ended(copy);
            }
        }
    }

    /// What is to be said of the volume as things stand, and a note of what its object said.
    /// `requested` is when this migration was asked for, if that passed here.
    pub(in crate::progress) fn decide(
        &mut self,
        question: &Question,
        requested: Option<Ticks>,
    ) -> Verdict {
        let verdict = self.verdict(question, requested);
        let current = self.current(question, requested);
        let current = current.map(|copy| copy.number);
        let candidates = self.candidates(question).into_iter();
        let mine: Vec<u64> = candidates
            .filter(|copy| copy.is_of(question))
            .map(|copy| copy.number)
            .collect();
        for number in mine {
            let Some(copy) = self.copies.get_mut(&number) else {
                continue;
            };
            let state = |copy: &FileCopy| {
                let has_host = copy.host.is_some();
                (copy.attached, copy.settled, has_host, copy.updated_at)
            };
            let before = state(copy);
            let runs = copy.end.is_none();
            if runs {
                copy.attached |= question.attached;
                copy.updated_at = question.updated_at.or(copy.updated_at);
            } else if !question.migrating {
                copy.settled = true;
            }
            let goes_on = runs || (current == Some(number) && copy.lately.is_none_or(is_recent));
            if question.migrating && goes_on {
                copy.lately = Some(SystemTime::now());
                copy.host = copy.host.take().or_else(|| question.host.clone());
            }
            if before != state(copy) {
                self.revision += 1;
            }
        }
        verdict
    }

    fn verdict(&self, question: &Question, requested: Option<Ticks>) -> Verdict {
        match self.current(question, requested) {
            // It may be of this migration, whose end takes its time, or of one before it.
            Some(copy)
                if question.migrating
                    && copy.end.is_some()
                    && !copy.lately.is_none_or(is_recent) =>
            {
                Verdict::Unseen(Answer::Unknown)
            }
            Some(copy)
                if migration::made_by(copy.facts(question.size), question, requested)
                    == MadeBy::Either =>
            {
                Verdict::Unseen(Answer::Unknown)
            }
            Some(copy) if copy.end == Some(End::Closed) => Verdict::Seen(Answer::Percent(100)),
            Some(copy) if !copy.moves => Verdict::Seen(Answer::Unknown),
            Some(copy) => Verdict::Seen(percent(copy.position, question.size)),
            None if question.migrating && self.may_have_begun(question, requested) => {
                Verdict::Unseen(Answer::Unknown)
            }
            None => Verdict::Unseen(nothing_seen(question)),
        }
    }

    /// The copy that goes on, or the last that is over, unless that one belongs to a migration before.
    fn current(&self, question: &Question, requested: Option<Ticks>) -> Option<&FileCopy> {
        let is_past = |copy: &&FileCopy| {
            let made_by = migration::made_by(copy.facts(question.size), question, requested);
            // A server that has it now and had not then: nova copies it, and this is old.
            made_by == MadeBy::Earlier || question.migrating && question.attached && !copy.attached
        };
        self.latest(question, |copy| copy.end.is_none())
            .or_else(|| {
                self.latest(question, |_| true)
                    .filter(|copy| !is_past(copy))
            })
    }

    fn latest(&self, question: &Question, wanted: impl Fn(&FileCopy) -> bool) -> Option<&FileCopy> {
        self.candidates(question)
            .into_iter()
            .rev()
            .find(|copy| copy.is_of(question) && wanted(copy))
    }
}
