//! Copies and wipes seen so far, running or gone.
//!
//! What is remembered is the process and not the volume: a copy is seen, with all names of its source,
//! before anyone asks for it, and a question finds it by name afterwards. So the end of a copy is known
//! even if the first question comes later, and a second migration of a volume is simply a newer copy.

use std::collections::BTreeMap;
use std::time::Instant;

use super::record::Record;
use super::scan::{Found, Scan};
use crate::progress::Question;
use crate::progress::journal;
use crate::progress::proc::process::{self, ProcessId};
use crate::progress::state::format::SavedRecord;
use crate::progress::volume_index::VolumeIndex;
use crate::progress::volumes::{KnownBy, KnownVolumes};

/// How many processes are remembered; the oldest that is gone makes room.
pub(in crate::progress) const MEMORY_LIMIT: usize = 1024;

/// All that was seen, the oldest first.
#[derive(Debug, Default)]
pub(in crate::progress) struct Memory {
    records: BTreeMap<ProcessId, Record>,
    index: VolumeIndex<ProcessId>,
    /// What calls and operations told of volumes.
    pub volumes: KnownVolumes,
    /// Counts the changes that are worth writing down.
    revision: u64,
}

impl Memory {
    /// Takes in a scan that was made at `at`.
    pub(in crate::progress) fn take_in(&mut self, scan: Scan, at: Instant) {
        for found in scan.found {
            if self.records.contains_key(&found.id) {
                self.update(found.id, |record| {
                    record.source.learn(found.source);
                    record.destination.learn(found.destination);
                });
            } else {
                self.add(found);
            }
        }
        let is_over = |record: &&Record| {
            record.runs()
                && !scan.alive.contains(&record.id)
                && !scan.unsure.contains(&record.id.pid)
        };
        let over: Vec<ProcessId> = self
            .records()
            .filter(is_over)
            .map(|record| record.id)
            .collect();
        for id in over {
            self.update(id, |record| record.ends(at));
        }
        self.assign();
    }

    /// Gives each copy that nothing names to the only migration it can be of, and takes it away again where
    /// there came to be two.
    pub(in crate::progress) fn assign(&mut self) {
        let now = process::now();
        // Rare; and this is asked for at each call.
        if !self.unnamed().any(Record::runs) {
            return;
        }
        let doubtful = self
            .volumes
            .doubtful(&self.records().collect::<Vec<_>>(), now);
        for id in doubtful {
            self.update(id, |record| {
                (record.volume, record.known_by) = (None, None);
            });
        }
        let known = self
            .volumes
            .assigned(&self.records().collect::<Vec<_>>(), now);
        for (id, volume) in known {
            self.update(id, |record| {
                record.volume = Some(volume);
                record.known_by = Some(KnownBy::Request);
            });
        }
    }

    fn add(&mut self, found: Found) {
        if self.records.len() >= MEMORY_LIMIT {
            // What nobody has asked about goes first.
            let oldest = self
                .records()
                .filter_map(|record| Some((record.was_asked_about(), record.gone?, record.id)))
                .min();
            let Some((_, _, oldest)) = oldest else {
                tracing::warn!(
                    pid = found.id.pid,
                    limit = MEMORY_LIMIT,
                    "too many dd at once"
                );
                return;
            };
            self.remove(oldest);
        }
        let record = Record::new(found);
        journal::dd_started(&record);
        self.insert(record);
        self.revision += 1;
    }

    fn insert(&mut self, mut record: Record) {
        record.keys = record.found_by();
        self.index.add(record.id, &record.keys);
        self.records.insert(record.id, record);
    }

    fn remove(&mut self, id: ProcessId) {
        if let Some(record) = self.records.remove(&id) {
            self.index.remove(id, &record.keys);
            self.revision += 1;
        }
    }

    /// Forgets what nobody will miss.
    pub(in crate::progress) fn forget(&mut self) {
        let forgotten: Vec<ProcessId> = self
            .records()
            .filter(|record| record.is_to_be_forgotten())
            .map(|record| record.id)
            .collect();
        for id in forgotten {
            self.remove(id);
        }
    }

    /// The ids of all that is remembered.
    pub(in crate::progress) fn ids(&self) -> Vec<ProcessId> {
        self.records.keys().copied().collect()
    }

    /// What there is to write down of these for a later run of the daemon.
    pub(in crate::progress) fn saved(&self, ids: &[ProcessId]) -> Vec<SavedRecord> {
        let records = ids.iter().filter_map(|&id| self.get(id));
        records.map(Record::saved).collect()
    }

    /// What an earlier run of the daemon has written down.
    pub(in crate::progress) fn restored(saved: Vec<SavedRecord>) -> Self {
        let now = Instant::now();
        let mut memory = Self::default();
        for record in saved.into_iter().take(MEMORY_LIMIT) {
            memory.remove(record.id);
            memory.insert(Record::restored(record, now));
        }
        memory
    }

    /// Another number when there is something new to write down.
    pub(in crate::progress) fn revision(&self) -> u64 {
        self.revision.wrapping_add(self.volumes.changes())
    }

    /// Whether nothing is remembered.
    pub(in crate::progress) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.volumes.is_empty()
    }

    /// Everything remembered.
    pub(in crate::progress) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// All that may be the volume's that is asked about, what no name leads to included: few, however much is
    /// remembered.
    pub(in crate::progress) fn candidates(&self, question: &Question) -> Vec<&Record> {
        match self.index.of(question) {
            Some(mut ids) => {
                ids.extend(self.index.unnamed());
                ids.sort_unstable();
                ids.dedup();
                ids.into_iter().filter_map(|id| self.get(id)).collect()
            }
            None => self.records().collect(),
        }
    }

    /// What reads disks that no name leads to.
    pub(in crate::progress) fn unnamed(&self) -> impl Iterator<Item = &Record> {
        self.index.unnamed().filter_map(|id| self.get(id))
    }

    /// One process, if it is remembered.
    pub(in crate::progress) fn get(&self, id: ProcessId) -> Option<&Record> {
        self.records.get(&id)
    }

    /// Changes what is remembered of one process, if it is.
    pub(in crate::progress) fn update<T>(
        &mut self,
        id: ProcessId,
        work: impl FnOnce(&mut Record) -> T,
    ) -> Option<T> {
        let record = self.records.get_mut(&id)?;
        let (before, named) = (record.fingerprint(), record.names());
        let outcome = work(record);
        if record.names() != named {
            self.index.remove(id, &record.keys);
            record.keys = record.found_by();
            self.index.add(id, &record.keys);
        }
        if record.fingerprint() != before {
            self.revision += 1;
        }
        Some(outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::operands::Purpose;
    use super::super::record::UNASKED;
    use super::super::scan::Begin;
    use super::*;
    use crate::progress::device::Identity;
    use crate::progress::tests::fake_host::Fake;

    const MIB: u64 = 1 << 20;

    fn found(pid: i32, start: u64) -> Found {
        let roots = Fake::new().roots();
        Found {
            id: ProcessId { start, pid },
            purpose: Purpose::Copy,
            source: Identity::of(&roots, "/dev/vg/a"),
            destination: Identity::of(&roots, "/dev/vg/b"),
            block: MIB,
            bytes: Some(1000 * MIB),
            begin: Begin::default(),
            written: None,
            at: Instant::now(),
        }
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_that_is_gone_makes_room() {
        let mut memory = Memory::default();
        for start in 0..MEMORY_LIMIT as u64 {
            memory.add(found(7, start));
        }
        memory.add(found(8, 5000));
        assert_eq!(
            memory.records().count(),
            MEMORY_LIMIT,
            "what runs is not forgotten"
        );
        assert!(
            memory
                .get(ProcessId {
                    start: 5000,
                    pid: 8
                })
                .is_none()
        );
        let now = Instant::now();
        for (start, age) in [(30, 5), (40, 9), (50, 1)] {
            let id = ProcessId { start, pid: 7 };
            memory
                .update(id, |record| record.ends(now - Duration::from_secs(age)))
                .unwrap();
        }
        memory.add(found(8, 5000));
        assert_eq!(memory.records().count(), MEMORY_LIMIT);
        assert!(memory.get(ProcessId { start: 40, pid: 7 }).is_none());
        assert!(memory.get(ProcessId { start: 30, pid: 7 }).is_some());
    }

    #[test]
    fn a_scan_ends_what_it_did_not_see_unless_it_could_not_look() {
        let mut memory = Memory::default();
        memory.add(found(7, 7));
        memory.add(found(8, 8));
        let scan = Scan {
            unsure: [8].into(),
            ..Scan::default()
        };
        memory.take_in(scan, Instant::now());
        let running: Vec<bool> = memory.records().map(Record::runs).collect();
        assert_eq!(running, [false, true]);
    }

    /// A full memory of copies that are over, each of a volume with the number as its id.
    fn full() -> Memory {
        let mut memory = Memory::default();
        for number in 0..MEMORY_LIMIT as u64 {
            memory.add(copy_of(number));
        }
        memory.take_in(Scan::default(), Instant::now());
        memory
    }

    fn id_of(number: u64) -> String {
        uuid::Uuid::from_u128(number.into()).to_string()
    }

    fn copy_of(number: u64) -> Found {
        let path = format!("/dev/no-such-group/volume-{}", id_of(number));
        Found {
            source: Identity::of(&Fake::new().roots(), &path),
            ..found(7, number)
        }
    }

    fn question_about(number: u64) -> Question {
        let id = id_of(number);
        Question::about(&id, &format!("volume-{id}"), 1000 * MIB)
    }

    #[test]
    fn only_what_may_be_the_volumes_is_looked_at_however_much_is_remembered() {
        let mut memory = full();
        let looked_at = |memory: &Memory, number| -> Vec<u64> {
            let candidates = memory.candidates(&question_about(number));
            candidates.iter().map(|record| record.id.start).collect()
        };
        assert_eq!(looked_at(&memory, 5), [5]);
        assert!(looked_at(&memory, 5000).is_empty());
        assert_eq!(memory.unnamed().count(), 0);
        // A name that is learnt later, and a volume that it was given to, lead to it as well.
        memory.update(ProcessId { start: 7, pid: 7 }, |record| {
            record.source.learn(Identity::of(
                &Fake::new().roots(),
                &format!("/x/{}", id_of(5000)),
            ));
            record.volume = Some(id_of(5001));
        });
        assert_eq!(looked_at(&memory, 5000), [7]);
        assert_eq!(looked_at(&memory, 5001), [7]);
        // Who makes room is found no more.
        memory.add(copy_of(6000));
        assert_eq!(memory.records().count(), MEMORY_LIMIT);
        assert!(looked_at(&memory, 0).is_empty());
        assert_eq!(looked_at(&memory, 6000), [6000]);
    }

    #[test]
    fn what_is_long_over_and_was_not_asked_about_is_forgotten() {
        let mut memory = full();
        let long_ago = SystemTime::now() - 2 * UNASKED;
        for start in 0..4 {
            let id = ProcessId { start, pid: 7 };
            memory.update(id, |record| {
                record.lately = Some(long_ago);
                match start {
                    1 => record.volume = Some("1".to_owned()),
                    2 => record.settled = true,
                    3 => record.gone = None,
                    _ => {}
                }
            });
        }
        memory.forget();
        let kept: Vec<u64> = memory.records().map(|record| record.id.start).collect();
        assert_eq!(kept[..5], [1, 2, 3, 4, 5]);
        assert_eq!(kept.len(), MEMORY_LIMIT - 1);
    }

    #[test]
    fn only_what_changes_is_worth_writing_down() {
        let mut memory = full();
        let id = ProcessId { start: 3, pid: 7 };
        let before = memory.revision();
        memory.forget();
        memory.update(id, |record| record.goes_on());
        assert_eq!(memory.revision(), before);
        memory.update(id, |record| record.size = Some(MIB));
        assert_ne!(memory.revision(), before);
    }
}
