//! Finds what is remembered of a volume without looking at all that is remembered.
//!
//! A volume's name holds its id, in every form that a path takes ([`Identity::names_volume`]), so whatever
//! can be the volume's has that id in one of its names. What has no such id in its name is not indexed, and a
//! question without one looks at everything.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use uuid::Uuid;

use super::Question;
use super::device::{Identity, mentions};

/// The key of those that no name leads to.
const UNNAMED: &str = "";

/// What may be a volume's, by hashes of ids and paths. Others of the same hash are found besides, so whoever
/// looks something up compares the names themselves as well.
#[derive(Debug)]
pub(super) struct VolumeIndex<K> {
    found: HashMap<u64, Vec<K>>,
}

impl<K> Default for VolumeIndex<K> {
    fn default() -> Self {
        Self {
            found: HashMap::new(),
        }
    }
}

/// The hashes by which one copy or wipe is found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Keys(Vec<u64>);

impl Keys {
    /// By the names of what it reads, by the paths that a caller may say it reads, by the names of what it
    /// writes, and by the volume that it was given to.
    pub(super) fn of(
        source: Option<&Identity>,
        destination: Option<&Identity>,
        volume: Option<&str>,
    ) -> Self {
        let mut keys = Self::default();
        for alias in source.into_iter().flat_map(Identity::aliases) {
            keys.add(alias);
        }
        for identity in [source, destination].into_iter().flatten() {
            identity.ids().for_each(|id| keys.add(&id.to_string()));
        }
        if let Some(volume) = volume {
            keys.add(volume);
        }
        if source.is_some_and(Identity::is_unnamed) {
            keys.add(UNNAMED);
        }
        keys.0.sort_unstable();
        keys.0.dedup();
        keys
    }

    fn add(&mut self, text: &str) {
        self.0.push(key(text));
    }
}

impl<K: Copy + Ord> VolumeIndex<K> {
    /// Lets `item` be found by `keys`.
    pub(super) fn add(&mut self, item: K, keys: &Keys) {
        for &key in &keys.0 {
            self.found.entry(key).or_default().push(item);
        }
    }

    /// Lets `item` be found by them no more.
    pub(super) fn remove(&mut self, item: K, keys: &Keys) {
        for key in &keys.0 {
            if let Some(items) = self.found.get_mut(key) {
                items.retain(|&other| other != item);
                if items.is_empty() {
                    self.found.remove(key);
                }
            }
        }
    }

    /// All that may be the volume's that is asked about, in order; `None` where that may be anything.
    pub(super) fn of(&self, question: &Question) -> Option<Vec<K>> {
        let mut keys = vec![key(&question.volume_id)];
        for name in &question.names {
            keys.push(key(&mentions(name).next()?.id.to_string()));
        }
        let ids = question
            .ids
            .iter()
            .filter_map(|id| Uuid::try_parse(id).ok());
        keys.extend(ids.map(|id| key(&id.to_string())));
        let path = question.src_path.as_deref();
        keys.extend(path.and_then(|path| path.to_str()).map(key));
        let found = keys.iter().filter_map(|key| self.found.get(key));
        let mut items: Vec<K> = found.flatten().copied().collect();
        items.sort_unstable();
        items.dedup();
        Some(items)
    }

    /// All that no name leads to.
    pub(super) fn unnamed(&self) -> impl Iterator<Item = K> {
        let found = self.found.get(&key(UNNAMED));
        found.into_iter().flatten().copied()
    }
}

fn key(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::progress::Roots;

    const ID_OF_ONE: &str = "b5012f4a-d256-45a1-8370-86a6dd7e6dde";

    fn index(paths: &[String]) -> VolumeIndex<usize> {
        let mut index = VolumeIndex::default();
        for (number, path) in paths.iter().enumerate() {
            let source = Identity::of(&Roots::default(), path);
            index.add(number, &Keys::of(Some(&source), None, None));
        }
        index
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
        assert_eq!(index.of(&question), Some(vec![0, 1, 2]));
        let by_path = Question {
            src_path: Some("/dev/no-such-disk".into()),
            ..Question::about(&other, &format!("volume-{other}"), 1)
        };
        assert_eq!(index.of(&by_path), Some(vec![3, 4]));
        assert_eq!(index.of(&Question::about("1", "volume-1", 1)), None);
    }

    #[test]
    fn what_is_taken_out_leaves_nothing_behind() {
        let mut index = VolumeIndex::default();
        let source = Identity::of(&Roots::default(), &format!("/mnt/volume-{ID_OF_ONE}"));
        let keys = Keys::of(Some(&source), Some(&source), Some("1"));
        index.add(7, &keys);
        index.add(8, &keys);
        index.remove(7, &keys);
        let question = Question::about("1", &format!("volume-{ID_OF_ONE}"), 1);
        assert_eq!(index.of(&question), Some(vec![8]));
        index.remove(8, &keys);
        assert!(index.found.is_empty());
    }

    proptest! {
        /// Whatever the names compared in full would find is among what the index finds.
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
            // A digit behind the id makes it another number: then everything is looked at.
            let found = index.of(&Question::about("1", &name, 1));
            let missed = found.is_some_and(|found| found != [0]);
            prop_assert!(!source.names_volume(&name) || !missed);
        }
    }
}
