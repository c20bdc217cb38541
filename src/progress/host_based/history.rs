//! Copies and wipes by dd seen so far, running or gone.
//!
//! Processes are remembered, not volumes. A dd is recorded with all names of its source before any call asks for it,
//! and a question finds it by name afterwards. So the end of a copy is known even if the first question comes later,
//! and a second migration of a volume is a newer copy.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::record::Record;
use super::scan::{FoundDd, Scan};
use crate::progress::Question;
use crate::progress::device::Hardware;
use crate::progress::journal::{self, EndedCopies};
use crate::progress::memory::copy_store::{CopyRecord, CopyStore, MEMORY_LIMIT};
use crate::progress::memory::volumes::KnownVolumes;
use crate::progress::migration::earliest;
use crate::progress::proc::exits::ProcessEnd;
use crate::progress::proc::process::ProcessId;
use crate::progress::verdict::sizes_of;

/// How long after the end of a process was seen its exit status is accepted. The kernel queues the status some
/// microseconds after others can see the end.
const LATE: Duration = Duration::from_secs(10);

/// All dd seen, the oldest first.
#[derive(Debug, Default)]
pub(in crate::progress) struct History {
    copies: CopyStore<ProcessId, Record>,
    /// The volumes that calls and requests named.
    pub volumes: KnownVolumes,
    /// How copies have ended.
    pub ended: EndedCopies,
}

impl History {
    /// Takes in a scan that was made at `at`. Returns whether it has found a copy that is new.
    pub(in crate::progress) fn take_in(&mut self, scan: Scan, at: Instant) -> bool {
        let mut is_new = false;
        for found in scan.found {
            let dd = &found.dd;
            if self.copies.get(dd.id).is_some() {
                self.update(dd.id, |record| {
                    record.dd.source.learn(found.dd.source);
                    record.dd.destination.learn(found.dd.destination);
                });
            } else {
                is_new = true;
                self.add(found);
            }
        }
        let is_over = |record: &&Record| {
            let id = record.dd.id;
            record.runs() && !scan.alive.contains(&id) && !scan.unsure.contains(&id.pid)
        };
        let over: Vec<ProcessId> = self
            .records()
            .filter(is_over)
            .map(|record| record.dd.id)
            .collect();
        for id in over {
            self.update(id, |record| record.ends(at));
        }
        is_new
    }

    /// Takes in which processes have ended by `at`, and how.
    pub(in crate::progress) fn hear(&mut self, ends: &[ProcessEnd], at: Instant) {
        for end in ends {
            let late = |record: &Record| {
                let gone = record.ended().filter(|_| record.exit().is_none());
                gone.is_some_and(|gone| at.saturating_duration_since(gone) <= LATE)
            };
            // The newest: the kernel gives a pid to another process only after it has told the end.
            let newest = self
                .records()
                .filter(|record| record.dd.id.pid == end.pid)
                .last();
            let id = newest
                .filter(|record| record.runs() || late(record))
                .map(|record| record.dd.id);
            if let Some(id) = id {
                self.update(id, |record| record.ends_with(end.status, at));
            }
        }
    }

    fn add(&mut self, found: FoundDd) {
        let dd = &found.dd;
        if !self.copies.make_room(MEMORY_LIMIT) {
            tracing::warn!(pid = dd.id.pid, limit = MEMORY_LIMIT, "too many dd at once");
            return;
        }
        let record = Record::new(found);
        journal::dd_started(&record);
        self.copies.insert(record.dd.id, record);
    }

    /// Forgets copies that are over for long and were never asked about.
    pub(in crate::progress) fn forget(&mut self) {
        self.copies.forget();
    }

    /// The ids of all that is remembered.
    pub(in crate::progress) fn ids(&self) -> Vec<ProcessId> {
        self.copies.keys()
    }

    /// These dd, to be saved.
    pub(in crate::progress) fn saved(&self, ids: &[ProcessId]) -> Vec<Record> {
        self.copies.saved(ids)
    }

    /// Restores what an earlier run of the daemon saved. The next look finds out whether a process still runs.
    pub(in crate::progress) fn restored(records: Vec<Record>, volumes: KnownVolumes) -> Self {
        let mut copies = CopyStore::default();
        for record in records.into_iter().take(MEMORY_LIMIT) {
            copies.insert(record.dd.id, record);
        }
        Self {
            copies,
            volumes,
            ended: EndedCopies::default(),
        }
    }

    /// The same, but finds nothing by index.
    #[cfg(test)]
    pub(in crate::progress) fn unindexed(mut self) -> Self {
        self.copies.unindexed = true;
        self
    }

    /// Another number when there is something new to save.
    pub(in crate::progress) fn revision(&self) -> u64 {
        self.copies.revision().wrapping_add(self.volumes.changes())
    }

    /// Whether nothing is remembered.
    pub(in crate::progress) fn is_empty(&self) -> bool {
        self.copies.is_empty() && self.volumes.is_empty()
    }

    /// Everything remembered.
    pub(in crate::progress) fn records(&self) -> impl Iterator<Item = &Record> {
        self.copies.all().map(|(_, record)| record)
    }

    /// The dd that may be the volume's by a name, an id, a path or the volume's record.
    pub(in crate::progress) fn candidates(&self, question: &Question) -> Vec<&Record> {
        let records = self.volumes.records(question);
        alone(self.copies.candidates(question, &records))
    }

    /// The dd attributed to the volume of this id, or whose names hold one of these ids.
    pub(in crate::progress) fn of_volume(&self, volume_id: &str, ids: &[Uuid]) -> Vec<&Record> {
        alone(self.copies.of_volume(volume_id, ids))
    }

    /// The copies of unnamed disks that one of `records` has a number of.
    pub(in crate::progress) fn meeting(&self, records: &[&Hardware]) -> Vec<&Record> {
        alone(self.copies.meeting(records))
    }

    /// The running copies of unnamed disks.
    pub(in crate::progress) fn running_unnamed(&self) -> Vec<&Record> {
        alone(self.copies.running_unnamed())
    }

    /// The copies of unnamed disks that are attributed to no volume, and may be of the one asked about by their size
    /// and age.
    pub(in crate::progress) fn unclaimed(&self, question: &Question) -> Vec<&Record> {
        let since = earliest(self.volumes.requested(&question.volume_id));
        alone(self.copies.unclaimed(sizes_of(question), since))
    }

    /// One process, if it is remembered.
    pub(in crate::progress) fn get(&self, id: ProcessId) -> Option<&Record> {
        self.copies.get(id)
    }

    /// Changes one dd, if it is remembered.
    pub(in crate::progress) fn update<T>(
        &mut self,
        id: ProcessId,
        work: impl FnOnce(&mut Record) -> T,
    ) -> Option<T> {
        let ended = &mut self.ended;
        self.copies.update(id, |record| {
            let ran = record.runs();
            let outcome = work(record);
            if ran
                && !record.runs()
                && let Some(end) = journal::dd_ended(record)
            {
                ended.count(end);
            }
            outcome
        })
    }
}

fn alone(found: Vec<(ProcessId, &Record)>) -> Vec<&Record> {
    found.into_iter().map(|(_, record)| record).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;
    use std::time::SystemTime;

    use super::super::operands::Purpose;
    use super::super::scan::{Begin, DdFacts};
    use super::*;
    use crate::progress::device::Identity;
    use crate::progress::migration::UNASKED;
    use crate::progress::tests::fake_host::Fake;

    const MIB: u64 = 1 << 20;

    fn found(pid: i32, start: u64) -> FoundDd {
        let roots = Fake::new().roots();
        let dd = DdFacts {
            id: ProcessId { start, pid },
            purpose: Purpose::Copy,
            source: Identity::of(&roots, "/dev/vg/a"),
            destination: Identity::of(&roots, "/dev/vg/b"),
            block: MIB,
            bytes: Some(1000 * MIB),
            begin: Begin::default(),
        };
        FoundDd {
            dd,
            written: None,
            at: Instant::now(),
        }
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_that_is_gone_makes_room() {
        let mut history = History::default();
        for start in 0..MEMORY_LIMIT as u64 {
            history.add(found(7, start));
        }
        history.add(found(8, 5000));
        assert_eq!(
            history.records().count(),
            MEMORY_LIMIT,
            "what runs is not forgotten"
        );
        assert!(
            history
                .get(ProcessId {
                    start: 5000,
                    pid: 8
                })
                .is_none()
        );
        let now = Instant::now();
        for (start, age) in [(30, 5), (40, 9), (50, 1)] {
            let id = ProcessId { start, pid: 7 };
            history
                .update(id, |record| record.ends(now - Duration::from_secs(age)))
                .unwrap();
        }
        history.add(found(8, 5000));
        assert_eq!(history.records().count(), MEMORY_LIMIT);
        assert!(history.get(ProcessId { start: 40, pid: 7 }).is_none());
        assert!(history.get(ProcessId { start: 30, pid: 7 }).is_some());
    }

    #[test]
    fn the_kernels_word_is_taken_for_the_newest_of_that_number_and_not_much_later() {
        let mut history = History::default();
        let now = Instant::now();
        for (pid, start) in [(7, 1), (7, 2), (8, 3)] {
            history.add(found(pid, start));
        }
        let end = |pid| ProcessEnd {
            pid,
            status: ExitStatus::from_raw(1 << 8),
        };
        history.hear(&[end(7), end(9)], now);
        let told = |record: &Record| (record.runs(), record.exit().is_some());
        let all: Vec<_> = history.records().map(told).collect();
        assert_eq!(all, [(true, false), (false, true), (true, false)]);
        let eighth = ProcessId { start: 3, pid: 8 };
        history.update(eighth, |record| record.ends(now));
        history.hear(&[end(8)], now + 2 * LATE);
        assert_eq!(history.get(eighth).unwrap().exit(), None);
        history.hear(&[end(8)], now + LATE);
        assert!(history.get(eighth).unwrap().exit().is_some());
    }

    #[test]
    fn a_scan_ends_what_it_did_not_see_unless_it_could_not_look() {
        let mut history = History::default();
        history.add(found(7, 7));
        history.add(found(8, 8));
        let scan = Scan {
            unsure: [8].into(),
            ..Scan::default()
        };
        history.take_in(scan, Instant::now());
        let running: Vec<bool> = history.records().map(CopyRecord::runs).collect();
        assert_eq!(running, [false, true]);
    }

    /// A full history of copies that are over, each of a volume with the number as its id.
    fn full() -> History {
        let mut history = History::default();
        for number in 0..MEMORY_LIMIT as u64 {
            history.add(copy_of(number));
        }
        history.take_in(Scan::default(), Instant::now());
        history
    }

    fn id_of(number: u64) -> String {
        uuid::Uuid::from_u128(number.into()).to_string()
    }

    fn copy_of(number: u64) -> FoundDd {
        let path = format!("/dev/no-such-group/volume-{}", id_of(number));
        let mut found = found(7, number);
        found.dd.source = Identity::of(&Fake::new().roots(), &path);
        found
    }

    fn question_about(number: u64) -> Question {
        let id = id_of(number);
        Question::about(&id, &format!("volume-{id}"), 1000 * MIB)
    }

    #[test]
    fn only_what_may_be_the_volumes_is_looked_at_however_much_is_remembered() {
        let mut history = full();
        let looked_at = |history: &History, number| -> Vec<u64> {
            let candidates = history.candidates(&question_about(number));
            candidates.iter().map(|record| record.dd.id.start).collect()
        };
        assert_eq!(looked_at(&history, 5), [5]);
        assert!(looked_at(&history, 5000).is_empty());
        // A name that is learnt later, and a volume that it was given to, lead to it as well.
        history.update(ProcessId { start: 7, pid: 7 }, |record| {
            record.dd.source.learn(Identity::of(
                &Fake::new().roots(),
                &format!("/x/{}", id_of(5000)),
            ));
            record.notes.volume = Some(id_of(5001));
        });
        assert_eq!(looked_at(&history, 5000), [7]);
        assert_eq!(looked_at(&history, 5001), [7]);
        // Who makes room is found no more.
        history.add(copy_of(6000));
        assert_eq!(history.records().count(), MEMORY_LIMIT);
        assert!(looked_at(&history, 0).is_empty());
        assert_eq!(looked_at(&history, 6000), [6000]);
    }

    #[test]
    fn what_is_long_over_and_was_not_asked_about_is_forgotten() {
        let mut history = full();
        let long_ago = SystemTime::now() - 2 * UNASKED;
        for start in 0..4 {
            let id = ProcessId { start, pid: 7 };
            history.update(id, |record| {
                record.notes.last_confirmed = Some(long_ago);
                match start {
                    1 => record.notes.volume = Some("1".to_owned()),
                    2 => record.notes.migration_over = true,
                    3 => record.over = false,
                    _ => {}
                }
            });
        }
        history.forget();
        let kept: Vec<u64> = history.records().map(|record| record.dd.id.start).collect();
        assert_eq!(kept[..5], [1, 2, 3, 4, 5]);
        assert_eq!(kept.len(), MEMORY_LIMIT - 1);
    }

    #[test]
    fn only_what_changes_is_worth_writing_down() {
        let mut history = full();
        let id = ProcessId { start: 3, pid: 7 };
        let before = history.revision();
        history.forget();
        history.update(id, |record| record.said.other_copies.push(id));
        assert_eq!(history.revision(), before);
        let changes: [fn(&mut Record); 3] = [
            |record| record.size = Some(MIB),
            |record| record.notes.completes(&question_about(3)),
            |record| record.dd.source.add("/another/name".to_owned()),
        ];
        for change in changes {
            let before = history.revision();
            history.update(id, change);
            assert_ne!(history.revision(), before);
        }
    }
}
