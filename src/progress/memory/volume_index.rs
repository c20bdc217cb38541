//! Finds a volume's copies without comparing all that are remembered.
//!
//! A volume's name contains its id, in every form of a path ([`Identity::names_volume`]). So every copy that can be the
//! volume's has that id in one of its names. A copy without such an id is found by the numbers of its disk, which the
//! volume's record may contain, by its size, and while it runs. For a question without an id all copies are compared.
//!
//! The result is small and contains all copies that fit. The caller compares each in full.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::RangeInclusive;

use uuid::Uuid;

use crate::progress::Question;
use crate::progress::device::{Hardware, Identity, mentions};
use crate::progress::proc::process::Ticks;

/// Copies by hashes of ids, paths and numbers, and by size.
#[derive(Debug)]
pub(in crate::progress) struct VolumeIndex<K> {
    found: HashMap<u64, Vec<K>>,
    /// By the position at which they end, then by when they began.
    unclaimed: BTreeMap<Option<u64>, BTreeMap<Option<Ticks>, Vec<K>>>,
}

impl<K> Default for VolumeIndex<K> {
    fn default() -> Self {
        Self {
            found: HashMap::new(),
            unclaimed: BTreeMap::new(),
        }
    }
}

/// The keys of one copy or wipe.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::progress) struct Indexed<'a> {
    /// The source: by each name, because a caller may give a path, and by the numbers of an unnamed disk.
    pub source: Option<&'a Identity>,
    /// The destination: by the ids in its names.
    pub destination: Option<&'a Identity>,
    /// The volume to which the copy is assigned.
    pub volume: Option<&'a str>,
    /// Whether the copy runs.
    pub runs: bool,
    /// The position in the source at which the copy ends, if it is known.
    pub bytes: Option<u64>,
    /// When the copy began, if that is known.
    pub begun: Option<Ticks>,
}

/// The keys as hashes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::progress) struct Keys {
    hashes: Vec<u64>,
    /// The end position and the start of a copy of an unnamed disk that is assigned to no volume.
    unclaimed: Option<(Option<u64>, Option<Ticks>)>,
}

impl Keys {
    pub(in crate::progress) fn of(copy: Indexed<'_>) -> Self {
        let mut hashes = Vec::new();
        for alias in copy.source.into_iter().flat_map(Identity::aliases) {
            hashes.push(key(alias));
        }
        for identity in [copy.source, copy.destination].into_iter().flatten() {
            hashes.extend(identity.ids().map(of_id));
        }
        hashes.extend(copy.volume.map(key));
        let unnamed = copy.source.filter(|source| source.is_unnamed());
        if let Some(source) = unnamed {
            hashes.extend(of_hardware(source.hardware()));
            hashes.extend(copy.runs.then(|| key(RUNNING)));
        }
        hashes.sort_unstable();
        hashes.dedup();
        Self {
            hashes,
            unclaimed: unnamed
                .filter(|_| copy.volume.is_none())
                .map(|_| (copy.bytes, copy.begun)),
        }
    }
}

impl<K: Copy + Ord> VolumeIndex<K> {
    /// Adds `item` under `keys`.
    pub(in crate::progress) fn add(&mut self, item: K, keys: &Keys) {
        for &key in &keys.hashes {
            self.found.entry(key).or_default().push(item);
        }
        if let Some((bytes, begun)) = keys.unclaimed {
            let of_size = self.unclaimed.entry(bytes).or_default();
            of_size.entry(begun).or_default().push(item);
        }
    }

    /// Removes `item` from under `keys`.
    pub(in crate::progress) fn remove(&mut self, item: K, keys: &Keys) {
        let is_empty_without = |items: &mut Vec<K>| {
            items.retain(|&other| other != item);
            items.is_empty()
        };
        for key in &keys.hashes {
            if self.found.get_mut(key).is_some_and(is_empty_without) {
                self.found.remove(key);
            }
        }
        if let Some((bytes, begun)) = keys.unclaimed
            && let Some(of_size) = self.unclaimed.get_mut(&bytes)
        {
            if of_size.get_mut(&begun).is_some_and(is_empty_without) {
                of_size.remove(&begun);
            }
            if of_size.is_empty() {
                self.unclaimed.remove(&bytes);
            }
        }
    }

    /// All copies that may be those of the question's volume, by its names, its ids and the caller's path. `None` if
    /// every copy may be.
    pub(in crate::progress) fn named(&self, question: &Question) -> Option<Vec<K>> {
        let mut keys = vec![key(&question.volume_id)];
        for name in &question.names {
            keys.push(of_id(&mentions(name).next()?.id));
        }
        let ids = question
            .ids
            .iter()
            .filter_map(|id| Uuid::try_parse(id).ok());
        keys.extend(ids.map(|id| of_id(&id)));
        let path = question.src_path.as_deref();
        keys.extend(path.and_then(|path| path.to_str()).map(key));
        Some(self.by(keys))
    }

    /// All copies that are assigned to the volume of this id, or have one of these ids in a name.
    pub(in crate::progress) fn of_volume(&self, volume_id: &str, ids: &[Uuid]) -> Vec<K> {
        self.by([key(volume_id)].into_iter().chain(ids.iter().map(of_id)))
    }

    /// All copies of unnamed disks with one of these numbers.
    pub(in crate::progress) fn meeting(&self, hardware: &Hardware) -> Vec<K> {
        self.by(of_hardware(hardware))
    }

    /// All running copies of unnamed disks.
    pub(in crate::progress) fn running_unnamed(&self) -> Vec<K> {
        self.by([key(RUNNING)])
    }

    /// All copies of unnamed disks that are assigned to no volume, end at a position in `bytes` or an unknown one, and
    /// did not begin before `since`.
    pub(in crate::progress) fn unclaimed(
        &self,
        bytes: RangeInclusive<u64>,
        since: Option<Ticks>,
    ) -> Vec<K> {
        let unknown = self.unclaimed.get(&None);
        let known = self
            .unclaimed
            .range(Some(*bytes.start())..=Some(*bytes.end()));
        let of_sizes = unknown.into_iter().chain(known.map(|(_, of_size)| of_size));
        let begun = of_sizes.flat_map(|of_size| {
            let unknown = since.and_then(|_| of_size.get(&None));
            let known = of_size.range(since..).map(|(_, items)| items);
            unknown.into_iter().chain(known).flatten()
        });
        begun.copied().collect()
    }

    fn by(&self, keys: impl IntoIterator<Item = u64>) -> Vec<K> {
        let found = keys.into_iter().filter_map(|key| self.found.get(&key));
        found.flatten().copied().collect()
    }
}

/// The key of running, unnamed copies. It equals no path and no id.
const RUNNING: &str = "";

fn key(text: &str) -> u64 {
    hash(text)
}

fn of_id(id: &Uuid) -> u64 {
    key(&id.to_string())
}

/// The keys of a disk's numbers: two disks with a common key [meet](Hardware::meets).
fn of_hardware(hardware: &Hardware) -> impl Iterator<Item = u64> {
    let numbers = hardware.numbers().iter().map(hash);
    numbers.chain(hardware.units().iter().map(hash))
}

fn hash<T: Hash + ?Sized>(what: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::progress::Roots;

    const ID_OF_ONE: &str = "b5012f4a-d256-45a1-8370-86a6dd7e6dde";

    fn index(paths: &[String]) -> VolumeIndex<usize> {
        let mut index = VolumeIndex::default();
        for (number, path) in paths.iter().enumerate() {
            let source = Identity::of(&Roots::default(), path);
            index.add(
                number,
                &Keys::of(Indexed {
                    source: Some(&source),
                    ..Indexed::default()
                }),
            );
        }
        index
    }

    /// The copies that were found, each once and in order.
    fn found(index: &VolumeIndex<usize>, question: &Question) -> Option<Vec<usize>> {
        let found = index.named(question)?;
        Some(BTreeSet::from_iter(found).into_iter().collect())
    }

    #[test]
    fn a_volume_is_found_by_any_form_of_its_name_and_others_are_not() {
        let mapped = ID_OF_ONE.replace('-', "--");
        let other = ID_OF_ONE.replace('b', "c");
        let index = index(&[
            format!("/dev/no-such-group/volume-{ID_OF_ONE}"),
            format!("/dev/mapper/vg-volume--{mapped}"),
            format!("/dev/disk/by-path/ip-1:3260-iscsi-iqn:volume-{ID_OF_ONE}-lun-1"),
            format!("/mnt/volume-{other}"),
            "/dev/no-such-disk".to_owned(),
        ]);
        let name = format!("volume-{ID_OF_ONE}");
        let question = Question::about(ID_OF_ONE, &name, 1);
        assert_eq!(found(&index, &question), Some(vec![0, 1, 2]));
        let by_path = Question {
            src_path: Some("/dev/no-such-disk".into()),
            ..Question::about(&other, &format!("volume-{other}"), 1)
        };
        assert_eq!(found(&index, &by_path), Some(vec![3, 4]));
        assert_eq!(found(&index, &Question::about("1", "volume-1", 1)), None);
    }

    #[test]
    fn what_is_taken_out_leaves_nothing_behind() {
        let mut index = VolumeIndex::default();
        let path = format!("/dev/disk/by-id/scsi-{ID_OF_ONE}");
        let source = Identity::of(&Roots::default(), &path);
        for volume in [Some("1"), None] {
            let keys = Keys::of(Indexed {
                source: Some(&source),
                destination: Some(&source),
                volume,
                runs: true,
                bytes: Some(8),
                begun: Some(3),
            });
            index.add(7, &keys);
            index.add(8, &keys);
            index.remove(7, &keys);
            let question = Question::about("1", &format!("volume-{ID_OF_ONE}"), 1);
            assert_eq!(found(&index, &question), Some(vec![8]));
            assert_eq!(index.running_unnamed(), [8]);
            let unclaimed = if volume.is_none() { vec![8] } else { vec![] };
            assert_eq!(index.unclaimed(1..=8, None), unclaimed);
            assert_eq!(index.unclaimed(1..=8, Some(3)), unclaimed);
            assert!(index.unclaimed(1..=8, Some(4)).is_empty());
            assert!(index.unclaimed(9..=10, None).is_empty());
            index.remove(8, &keys);
            assert!(index.found.is_empty() && index.unclaimed.is_empty());
        }
    }

    proptest! {
        /// The index finds every copy that a full comparison of names finds.
        #[test]
        fn nothing_that_has_the_volumes_name_is_missed(
            before in "[a-f0-9_-]{0,4}",
            after in "[a-f0-9_-]{0,4}",
            form in 0..4_usize,
            around in "[a-f0-9-]{0,3}",
        ) {
            let name = format!("{before}{ID_OF_ONE}{after}");
            let path = match form {
                0 => format!("/dev/mapper/vg{around}-{}", name.replace('-', "--")),
                1 => format!("/dev/mapper/{name}"),
                2 => format!("/dev/disk/by-path/{around}-{name}-lun-1"),
                _ => format!("/no/such/{name}"),
            };
            let source = Identity::of(&Roots::default(), &path);
            let index = index(&[path]);
            // A digit right after the id makes another number of it. Then all copies are compared.
            let there = found(&index, &Question::about("1", &name, 1));
            let missed = there.is_some_and(|there| there != [0]);
            prop_assert!(!source.names_volume(&name) || !missed);
        }
    }
}
