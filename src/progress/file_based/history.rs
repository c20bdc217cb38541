//! Copies through open files seen so far, and what they mean for the answer. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use super::copy::{End, Ends, FileCopy};
use super::open_files::{Fate, OpenFile, Place};
use super::pairs::Pair;
use crate::progress::device::Identity;
use crate::progress::host_based::history::MEMORY_LIMIT;
use crate::progress::host_based::record::is_recent;
use crate::progress::host_based::{Verdict, percent};
use crate::progress::volume_index::VolumeIndex;
use crate::progress::{Answer, Question};

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

/// All such copies, by the order in which they were found.
#[derive(Debug, Default)]
pub(in crate::progress) struct FileCopies {
    copies: BTreeMap<u64, FileCopy>,
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
        for copy in saved {
            copies.insert(copy);
        }
        copies
    }

    /// The numbers of all that is remembered.
    pub(in crate::progress) fn numbers(&self) -> Vec<u64> {
        self.copies.keys().copied().collect()
    }

    /// What there is to write down of these.
    pub(in crate::progress) fn saved(&self, numbers: &[u64]) -> Vec<FileCopy> {
        let copies = numbers.iter().filter_map(|number| self.copies.get(number));
        copies.cloned().collect()
    }

    pub(in crate::progress) fn is_empty(&self) -> bool {
        self.copies.is_empty()
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
        tracing::info!(
            volume_id = question.volume_id,
            pid = file.id.pid,
            fd = file.fd,
            path = file.identity.path(),
            "found the volume open"
        );
        let number = self.push(FileCopy::asked_for(question, file, listed));
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
        tracing::info!(
            pid = file.id.pid,
            fd = file.fd,
            source = ends.source.path(),
            destination = ends.destination.path(),
            "copy through open files found"
        );
        self.push(FileCopy::between(ends, file, listed));
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
        let open = self.copies.values().filter(|copy| copy.end.is_none());
        open.cloned().collect()
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
        for copy in self.copies.values_mut().filter(same) {
            if fate != Fate::Open(copy.position) {
                self.revision += 1;
            }
            copy.end = match fate {
                Fate::Open(position) => {
                    copy.goes_on_at(position, now);
                    None
                }
                Fate::Closed => Some(copy.closed(now)),
                Fate::Gone => Some(End::Gone),
            };
            if copy.end.is_some() {
                copy.ended = Some(now);
                copy.lately = Some(SystemTime::now());
                tracing::info!(
                    volume_id = copy.volume,
                    pid = copy.id.pid,
                    fd = copy.fd,
                    source = copy.ends.as_ref().map(|ends| ends.source.path()),
                    position = copy.position,
                    end = ?copy.end,
                    "the volume is open no more"
                );
            }
        }
    }

    /// What is to be said of the volume as things stand, and a note of what its object said.
    pub(in crate::progress) fn decide(&mut self, question: &Question) -> Verdict {
        let verdict = self.verdict(question);
        let current = self.current(question).map(|copy| copy.number);
        let candidates = self.candidates(question).into_iter();
        let mine: Vec<u64> = candidates
            .filter(|copy| copy.is_of(question))
            .map(|copy| copy.number)
            .collect();
        for number in mine {
            let Some(copy) = self.copies.get_mut(&number) else {
                continue;
            };
            let before = (copy.attached, copy.settled, copy.host.is_some());
            let runs = copy.end.is_none();
            if runs {
                copy.attached |= question.attached;
            } else if !question.migrating {
                copy.settled = true;
            }
            let goes_on = runs || (current == Some(number) && copy.lately.is_none_or(is_recent));
            if question.migrating && goes_on {
                copy.lately = Some(SystemTime::now());
                copy.host = copy.host.take().or_else(|| question.host.clone());
            }
            if before != (copy.attached, copy.settled, copy.host.is_some()) {
                self.revision += 1;
            }
        }
        verdict
    }

    fn verdict(&self, question: &Question) -> Verdict {
        match self.current(question) {
            // It may be of this migration, whose end takes its time, or of one before it.
            Some(copy)
                if question.migrating
                    && copy.end.is_some()
                    && !copy.lately.is_none_or(is_recent) =>
            {
                Verdict::Unseen(Answer::Unknown)
            }
            Some(copy) if copy.end == Some(End::Closed) => Verdict::Seen(Answer::Percent(100)),
            Some(copy) if !copy.moves => Verdict::Seen(Answer::Unknown),
            Some(copy) => Verdict::Seen(percent(copy.position, question.size)),
            None if question.attached => Verdict::Unseen(Answer::Unknown),
            None => Verdict::Unseen(Answer::Percent(0)),
        }
    }

    /// The copy that goes on, or the last that is over, unless that one belongs to a migration before.
    fn current(&self, question: &Question) -> Option<&FileCopy> {
        let is_past = |copy: &&FileCopy| {
            // A server that has it now and had not then: nova copies it, and this is old.
            question.migrating
                && (copy.settled
                    || question.has_moved_from(copy.host.as_deref())
                    || question.attached && !copy.attached)
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
