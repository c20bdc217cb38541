//! The remembered copies, by dd or through open files. They are found by volume, and a revision counts the changes
//! that are to be saved.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::RangeInclusive;

use tokio::time::Instant;
use uuid::Uuid;

use super::volume_index::{Indexed, Keys, VolumeIndex};
use crate::progress::device::{Hardware, Identity};
use crate::progress::migration::{Evidence, MigrationNotes};
use crate::progress::pace::Observation;
use crate::progress::proc::process::Ticks;
use crate::progress::{Answer, Question};

/// How many copies of one kind are remembered.
pub(in crate::progress) const MEMORY_LIMIT: usize = 1024;

/// A copy, or a wipe after one. Its `Hash` covers exactly the saved fields: those in
/// [`Unsaved`](super::unsaved::Unsaved) are left out of both.
pub(in crate::progress) trait CopyRecord {
    /// Whether this is a copy, rather than a wipe.
    fn copies(&self) -> bool;
    /// What is read, if that is known.
    fn source(&self) -> Option<&Identity>;
    /// What is written, where copies are also found by their destination.
    fn destination(&self) -> Option<&Identity>;
    /// How far it was seen.
    fn observation(&self) -> &Observation;
    /// What tells its migration.
    fn notes(&self) -> &MigrationNotes;
    /// When it began, or was first seen.
    fn begun(&self) -> Option<Ticks>;
    /// Whether it certainly began after the request at that time.
    fn began_since(&self, request: Ticks) -> bool;
    /// Whether it still ran when last looked at.
    fn runs(&self) -> bool;
    /// When it was seen to be over, by this daemon.
    fn ended(&self) -> Option<Instant>;
    /// How large its source is, where that is known.
    fn source_bytes(&self) -> Option<u64>;
    /// Offset in the source where the copy ends, if known.
    fn bytes(&self) -> Option<u64>;
    /// Whether it is over and complete, for a volume of `size` bytes.
    fn reached(&self, size: u64) -> bool;
    /// The answer by the last position seen.
    fn by_position(&self, size: u64) -> Answer;

    /// The largest offset at which a copy of a volume of `size` bytes can end. A source may be smaller than its volume:
    /// encryption takes a few MiB, and an image file may be shorter than the disk in it.
    fn end(&self, size: u64) -> u64 {
        let there = self.source_bytes().filter(|&bytes| bytes > 0);
        there.map_or(size, |there| there.min(size))
    }

    /// Whether it certainly ended before it was complete, for a volume of `size` bytes.
    fn was_cut_short(&self, size: u64) -> bool {
        self.observation().was_cut_short(self.end(size))
    }

    /// The evidence of which migration of a volume of `size` bytes made it.
    fn evidence(&self, size: u64) -> Evidence<'_> {
        Evidence {
            notes: self.notes(),
            begun: self.begun(),
            cut_short: self.was_cut_short(size),
        }
    }

    /// Whether it runs, or was lately confirmed to belong to the current migration.
    fn is_recent(&self) -> bool {
        self.runs() || self.notes().is_recent()
    }

    /// Whether it can be forgotten: over for long, and never asked about.
    fn is_to_be_forgotten(&self) -> bool {
        !self.runs() && self.notes().is_to_be_forgotten()
    }
}

/// All copies of one kind, in the order of their keys.
#[derive(Debug)]
pub(in crate::progress) struct CopyStore<K, C> {
    copies: BTreeMap<K, Stored<C>>,
    index: VolumeIndex<K>,
    /// Counts the changes that are to be saved.
    revision: u64,
    /// Whether each lookup goes through all copies, so that a test can compare.
    #[cfg(test)]
    pub unindexed: bool,
}

#[derive(Debug)]
struct Stored<C> {
    copy: C,
    /// The keys of the index.
    keys: Keys,
}

impl<K, C> Default for CopyStore<K, C> {
    fn default() -> Self {
        Self {
            copies: BTreeMap::new(),
            index: VolumeIndex::default(),
            revision: 0,
            #[cfg(test)]
            unindexed: false,
        }
    }
}

impl<K: Copy + Ord, C: CopyRecord + Hash> CopyStore<K, C> {
    /// Stores a copy, in place of the one with the same key.
    pub(in crate::progress) fn insert(&mut self, key: K, copy: C) {
        self.remove(key);
        let keys = keys(&copy);
        self.index.add(key, &keys);
        self.copies.insert(key, Stored { copy, keys });
        self.revision += 1;
    }

    pub(in crate::progress) fn remove(&mut self, key: K) {
        if let Some(stored) = self.copies.remove(&key) {
            self.index.remove(key, &stored.keys);
            self.revision += 1;
        }
    }

    /// Forgets copies that are over for long and were never asked about.
    pub(in crate::progress) fn forget(&mut self) {
        let all = self.copies.iter();
        let forgotten = all.filter(|(_, stored)| stored.copy.is_to_be_forgotten());
        let forgotten: Vec<K> = forgotten.map(|(&key, _)| key).collect();
        for key in forgotten {
            self.remove(key);
        }
    }

    /// Whether there is room for one more copy below `limit`. If not, one that is over makes room: first those that
    /// nobody asked about, of these the one that ended first. Copies that run stay.
    pub(in crate::progress) fn make_room(&mut self, limit: usize) -> bool {
        if self.copies.len() < limit {
            return true;
        }
        let over = self.copies.iter().filter(|(_, stored)| !stored.copy.runs());
        let first = over.min_by_key(|(key, stored)| {
            let asked = stored.copy.notes().was_asked_about();
            (asked, stored.copy.ended(), **key)
        });
        let first = first.map(|(&key, _)| key);
        first.map(|key| self.remove(key)).is_some()
    }

    /// Changes one copy, if it is remembered.
    pub(in crate::progress) fn update<T>(
        &mut self,
        key: K,
        work: impl FnOnce(&mut C) -> T,
    ) -> Option<T> {
        let stored = self.copies.get_mut(&key)?;
        let (before, named) = (fingerprint(&stored.copy), names(&stored.copy));
        let outcome = work(&mut stored.copy);
        if names(&stored.copy) != named {
            self.index.remove(key, &stored.keys);
            stored.keys = keys(&stored.copy);
            self.index.add(key, &stored.keys);
        }
        if fingerprint(&stored.copy) != before {
            self.revision += 1;
        }
        Some(outcome)
    }

    pub(in crate::progress) fn get(&self, key: K) -> Option<&C> {
        self.copies.get(&key).map(|stored| &stored.copy)
    }

    pub(in crate::progress) fn all(&self) -> impl DoubleEndedIterator<Item = (K, &C)> {
        let all = self.copies.iter();
        all.map(|(&key, stored)| (key, &stored.copy))
    }

    /// The copies that may be the volume's by a name, an id, a path or one of `numbers`, the oldest first: few, however
    /// much is remembered.
    pub(in crate::progress) fn candidates(
        &self,
        question: &Question,
        numbers: &[&Hardware],
    ) -> Vec<(K, &C)> {
        let found = self.index.named(question).map(|mut keys| {
            keys.extend(numbers.iter().flat_map(|own| self.index.meeting(own)));
            keys
        });
        self.select(found)
    }

    /// The copies attributed to the volume of this id, or whose names hold one of these ids.
    pub(in crate::progress) fn of_volume(&self, volume_id: &str, ids: &[Uuid]) -> Vec<(K, &C)> {
        self.select(Some(self.index.of_volume(volume_id, ids)))
    }

    /// Copies of unnamed disks that have one of `numbers`.
    pub(in crate::progress) fn meeting(&self, numbers: &[&Hardware]) -> Vec<(K, &C)> {
        let met = numbers.iter().flat_map(|own| self.index.meeting(own));
        self.select(Some(met.collect()))
    }

    /// Running copies of unnamed disks.
    pub(in crate::progress) fn running_unnamed(&self) -> Vec<(K, &C)> {
        self.select(Some(self.index.running_unnamed()))
    }

    /// Copies of unnamed disks that are attributed to no volume, end at an offset in `bytes` or an unknown one, and did
    /// not begin before `since`.
    pub(in crate::progress) fn unclaimed(
        &self,
        bytes: RangeInclusive<u64>,
        since: Option<Ticks>,
    ) -> Vec<(K, &C)> {
        self.select(Some(self.index.unclaimed(bytes, since)))
    }

    /// The copies with these keys, or all if `None`; the oldest first.
    fn select(&self, keys: Option<Vec<K>>) -> Vec<(K, &C)> {
        #[cfg(test)]
        let keys = keys.filter(|_| !self.unindexed);
        let Some(mut keys) = keys else {
            return self.all().collect();
        };
        keys.sort_unstable();
        keys.dedup();
        let keys = keys.into_iter();
        keys.filter_map(|key| Some((key, self.get(key)?))).collect()
    }

    pub(in crate::progress) fn keys(&self) -> Vec<K> {
        self.copies.keys().copied().collect()
    }

    /// These copies, to be saved.
    pub(in crate::progress) fn saved(&self, keys: &[K]) -> Vec<C>
    where
        C: Clone,
    {
        let copies = keys.iter().filter_map(|&key| self.get(key));
        copies.cloned().collect()
    }

    /// Another number when there is something new to save.
    pub(in crate::progress) fn revision(&self) -> u64 {
        self.revision
    }

    pub(in crate::progress) fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }
}

/// A hash of what is saved of a copy.
fn fingerprint(copy: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    copy.hash(&mut hasher);
    hasher.finish()
}

/// The index keys of a copy.
fn keys(copy: &impl CopyRecord) -> Keys {
    Keys::of(Indexed {
        source: copy.source(),
        destination: copy.destination(),
        volume: copy.notes().volume.as_deref(),
        runs: copy.runs(),
        bytes: copy.bytes(),
        begun: copy.begun(),
    })
}

/// A hash that changes when the keys may change. Names and numbers are only ever added, so their count is enough.
fn names(copy: &impl CopyRecord) -> u64 {
    let words = [copy.source(), copy.destination()].map(|end| end.map(Identity::len));
    let unnamed = copy.source().is_some_and(Identity::is_unnamed);
    let volume = &copy.notes().volume;
    let ends = (copy.begun(), copy.bytes(), copy.runs());
    fingerprint(&(words, unnamed, volume, ends))
}
