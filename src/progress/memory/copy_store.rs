//! The remembered copies, by dd or through open files. They are found by volume. A revision counts the changes that
//! have to be saved.

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

/// How many copies of one kind are remembered at most.
pub(in crate::progress) const MEMORY_LIMIT: usize = 1024;

/// A copy, or a wipe after one. Its hash covers the saved fields and no others: `Hash` and `Serialize` are derived from
/// the same fields.
pub(in crate::progress) trait CopyRecord {
    /// Whether this is a copy and not a wipe.
    fn copies(&self) -> bool;
    /// The source, if it is known.
    fn source(&self) -> Option<&Identity>;
    /// The destination, if copies of this kind are also found by their destination.
    fn destination(&self) -> Option<&Identity>;
    /// The positions that were read.
    fn observation(&self) -> &Observation;
    /// The notes about its migration.
    fn notes(&self) -> &MigrationNotes;
    /// When the copy began, or was first seen.
    fn begun(&self) -> Option<Ticks>;
    /// Whether the copy certainly began after a request at that time.
    fn began_since(&self, request: Ticks) -> bool;
    /// Whether the copy ran at the last scan.
    fn runs(&self) -> bool;
    /// When this daemon saw the end of the copy.
    fn ended(&self) -> Option<Instant>;
    /// The size of the source, if it is known.
    fn source_bytes(&self) -> Option<u64>;
    /// The position in the source at which the copy ends, if it is known.
    fn bytes(&self) -> Option<u64>;
    /// Whether the copy has ended and had copied all of a volume of `size` bytes.
    fn reached(&self, size: u64) -> bool;
    /// The answer by the last position that was read.
    fn by_position(&self, size: u64) -> Answer;

    /// The last position the copy can reach, of a volume of `size` bytes. A source may be smaller than its volume:
    /// encryption takes a few MiB, and a file may hold less than the volume that it stands for.
    fn end(&self, size: u64) -> u64 {
        let there = self.source_bytes().filter(|&bytes| bytes > 0);
        there.map_or(size, |there| there.min(size))
    }

    /// Whether the copy certainly ended before it had copied all of a volume of `size` bytes.
    fn was_cut_short(&self, size: u64) -> bool {
        self.observation().was_cut_short(self.end(size))
    }

    /// The evidence of which migration made the copy, for a volume of `size` bytes.
    fn evidence(&self, size: u64) -> Evidence<'_> {
        Evidence {
            notes: self.notes(),
            begun: self.begun(),
            cut_short: self.was_cut_short(size),
        }
    }

    /// Whether the copy runs, or was recently confirmed to belong to the current migration.
    fn is_recent(&self) -> bool {
        self.runs() || self.notes().is_recent()
    }

    /// Whether the copy can be forgotten: it ended long ago, and no call asked about it.
    fn is_to_be_forgotten(&self) -> bool {
        !self.runs() && self.notes().is_to_be_forgotten()
    }
}

/// All copies of one kind, in the order of their keys.
#[derive(Debug)]
pub(in crate::progress) struct CopyStore<K, C> {
    copies: BTreeMap<K, Stored<C>>,
    index: VolumeIndex<K>,
    /// Counts the changes that have to be saved.
    revision: u64,
    /// Whether lookups compare all copies instead of using the index, for a test that compares both.
    #[cfg(test)]
    pub unindexed: bool,
}

#[derive(Debug)]
struct Stored<C> {
    copy: C,
    /// The keys under which the index has the copy.
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
    /// Adds a copy. It replaces the one with the same key.
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

    /// Removes the copies that can be forgotten.
    pub(in crate::progress) fn forget(&mut self) {
        let all = self.copies.iter();
        let forgotten = all.filter(|(_, stored)| stored.copy.is_to_be_forgotten());
        let forgotten: Vec<K> = forgotten.map(|(&key, _)| key).collect();
        for key in forgotten {
            self.remove(key);
        }
    }

    /// Makes room for one more copy among `limit`: removes one that has ended, first one that no call asked about, and
    /// among these the one that ended first. Returns whether there is room.
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

    /// Changes the copy of this key. `None` if there is none.
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

    /// All copies that may be those of the question's volume, by a name, an id, a path or one of `numbers`. The oldest
    /// first. They are few, however many copies are remembered.
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

    /// All copies that are assigned to the volume of this id, or have one of these ids in a name.
    pub(in crate::progress) fn of_volume(&self, volume_id: &str, ids: &[Uuid]) -> Vec<(K, &C)> {
        self.select(Some(self.index.of_volume(volume_id, ids)))
    }

    /// All copies of unnamed disks with one of the numbers of `numbers`.
    pub(in crate::progress) fn meeting(&self, numbers: &[&Hardware]) -> Vec<(K, &C)> {
        let met = numbers.iter().flat_map(|own| self.index.meeting(own));
        self.select(Some(met.collect()))
    }

    /// All running copies of unnamed disks.
    pub(in crate::progress) fn running_unnamed(&self) -> Vec<(K, &C)> {
        self.select(Some(self.index.running_unnamed()))
    }

    /// All copies of unnamed disks that are assigned to no volume, end at a position in `bytes` or an unknown one, and
    /// did not begin before `since`.
    pub(in crate::progress) fn unclaimed(
        &self,
        bytes: RangeInclusive<u64>,
        since: Option<Ticks>,
    ) -> Vec<(K, &C)> {
        self.select(Some(self.index.unclaimed(bytes, since)))
    }

    /// The copies with these keys, or all if `None`. The oldest first.
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

    /// The copies with these keys, to be saved.
    pub(in crate::progress) fn saved(&self, keys: &[K]) -> Vec<C>
    where
        C: Clone,
    {
        let copies = keys.iter().filter_map(|&key| self.get(key));
        copies.cloned().collect()
    }

    /// A number that changes when there is something new to save.
    pub(in crate::progress) fn revision(&self) -> u64 {
        self.revision
    }

    pub(in crate::progress) fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }
}

/// A hash that changes when there is something new to save.
fn fingerprint(copy: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    copy.hash(&mut hasher);
    hasher.finish()
}

/// The present keys of a copy.
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

/// A hash that changes when the keys may have changed. Names and numbers are only added, so their count is enough.
fn names(copy: &impl CopyRecord) -> u64 {
    let words = [copy.source(), copy.destination()].map(|end| end.map(Identity::len));
    let unnamed = copy.source().is_some_and(Identity::is_unnamed);
    let volume = &copy.notes().volume;
    let ends = (copy.begun(), copy.bytes(), copy.runs());
    fingerprint(&(words, unnamed, volume, ends))
}
