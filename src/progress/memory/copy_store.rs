//! The remembered copies, by dd or through open files: found by volume; a revision counts the changes that are
//! worth saving.

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

/// A copy, or a wipe after one. The hash of one covers what is written down of it and nothing else: both are
/// derived from the same fields.
pub(in crate::progress) trait CopyRecord {
    /// Whether it is a copy, rather than a wipe.
    fn copies(&self) -> bool;
    /// What it reads, if that is known.
    fn source(&self) -> Option<&Identity>;
    /// What it writes, if it is also found by that.
    fn destination(&self) -> Option<&Identity>;
    /// How far it was seen.
    fn observation(&self) -> &Observation;
    /// What tells its migration.
    fn notes(&self) -> &MigrationNotes;
    /// When it began, or was first seen.
    fn begun(&self) -> Option<Ticks>;
    /// Whether it surely began after the request at that time.
    fn began_since(&self, request: Ticks) -> bool;
    /// Whether it still ran when last looked at.
    fn runs(&self) -> bool;
    /// When it was seen to be over, by this daemon.
    fn ended(&self) -> Option<Instant>;
    /// How large its source is, where that is known.
    fn source_bytes(&self) -> Option<u64>;
    /// Where in its source it ends, where that is known.
    fn bytes(&self) -> Option<u64>;
    /// Whether it is over and had come to its end, of a volume of `size` bytes.
    fn reached(&self, size: u64) -> bool;
    /// The answer by the last position seen.
    fn by_position(&self, size: u64) -> Answer;

    /// Where it ends at the latest, of a volume of `size` bytes: a source may be smaller than its volume.
    /// Encryption keeps a few MiB for itself, and a file may hold less than it stands for.
    fn end(&self, size: u64) -> u64 {
        let there = self.source_bytes().filter(|&bytes| bytes > 0);
        there.map_or(size, |there| there.min(size))
    }

    /// Whether it surely was over before it had come to its end, of a volume of `size` bytes.
    fn was_cut_short(&self, size: u64) -> bool {
        self.observation().was_cut_short(self.end(size))
    }

    /// What tells which migration it was made by, that of a volume of `size` bytes.
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
    /// Counts the changes that are worth writing down.
    revision: u64,
    /// Whether lookups go through everything, so that a test can compare.
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
    /// Remembers one more, in place of what had its key.
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

    /// Forgets what nobody will miss.
    pub(in crate::progress) fn forget(&mut self) {
        let all = self.copies.iter();
        let forgotten = all.filter(|(_, stored)| stored.copy.is_to_be_forgotten());
        let forgotten: Vec<K> = forgotten.map(|(&key, _)| key).collect();
        for key in forgotten {
            self.remove(key);
        }
    }

    /// Whether there is room for one more among `limit`, after what is over has made it: first what nobody
    /// has asked about, the oldest end first.
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

    /// Changes what is remembered of one, if it is.
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

    /// All that may be the volume's that is asked about by a name, an id, a path or one of `numbers`, the oldest
    /// first: few, however much is remembered.
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

    /// All that was given to the volume of this id, or bears one of these ids.
    pub(in crate::progress) fn of_volume(&self, volume_id: &str, ids: &[Uuid]) -> Vec<(K, &C)> {
        self.select(Some(self.index.of_volume(volume_id, ids)))
    }

    /// What reads disks that no name leads to and that one of `numbers` may tell of.
    pub(in crate::progress) fn meeting(&self, numbers: &[&Hardware]) -> Vec<(K, &C)> {
        let met = numbers.iter().flat_map(|own| self.index.meeting(own));
        self.select(Some(met.collect()))
    }

    /// What runs and reads a disk that no name leads to.
    pub(in crate::progress) fn running_unnamed(&self) -> Vec<(K, &C)> {
        self.select(Some(self.index.running_unnamed()))
    }

    /// What reads disks that no name leads to, was given to no volume, ends at such a size or nobody knows
    /// where, and did not begin before `since`.
    pub(in crate::progress) fn unclaimed(
        &self,
        bytes: RangeInclusive<u64>,
        since: Option<Ticks>,
    ) -> Vec<(K, &C)> {
        self.select(Some(self.index.unclaimed(bytes, since)))
    }

    /// These or, if `None`, all; the oldest first.
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

    /// What there is to write down of these.
    pub(in crate::progress) fn saved(&self, keys: &[K]) -> Vec<C>
    where
        C: Clone,
    {
        let copies = keys.iter().filter_map(|&key| self.get(key));
        copies.cloned().collect()
    }

    /// Another number when there is something new to write down.
    pub(in crate::progress) fn revision(&self) -> u64 {
        self.revision
    }

    pub(in crate::progress) fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }
}

/// Changes when there is something new to save.
fn fingerprint(copy: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    copy.hash(&mut hasher);
    hasher.finish()
}

/// The keys of a copy as things stand.
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

/// Changes when the keys may change. Names and numbers are only ever added.
fn names(copy: &impl CopyRecord) -> u64 {
    let words = [copy.source(), copy.destination()].map(|end| end.map(Identity::len));
    let unnamed = copy.source().is_some_and(Identity::is_unnamed);
    let volume = &copy.notes().volume;
    let ends = (copy.begun(), copy.bytes(), copy.runs());
    fingerprint(&(words, unnamed, volume, ends))
}
