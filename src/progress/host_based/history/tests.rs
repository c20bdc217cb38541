//! When a copy counts as complete, and what is remembered.

use super::*;
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

fn written(position: u64) -> Reading {
    Reading::Written(fdinfo::Found {
        fd: 1,
        position,
        sure: true,
    })
}

/// A copy of 10 MiB a second, looked at every 20 ms until it has come to `position`.
fn steady(position: u64) -> (Record, Instant) {
    let mut record = Record::new(found(7, 7));
    let begun = Instant::now();
    let steps = 50_u32;
    for step in 0..=steps {
        let missing = u64::from(steps - step) * MIB / 5;
        record.note(
            written(position - missing),
            begun + step * Duration::from_millis(20),
        );
    }
    (record, begun + steps * Duration::from_millis(20))
}

#[test]
fn a_copy_that_vanishes_in_its_last_moments_has_reached_the_end() {
    let (mut record, last) = steady(999 * MIB);
    assert!(!record.reached(1000 * MIB), "not while it runs");
    record.note(Reading::Gone, last + Duration::from_millis(20));
    assert!(record.reached(1000 * MIB));
}

#[test]
fn a_copy_that_vanishes_earlier_has_not() {
    let (mut record, last) = steady(970 * MIB);
    record.note(Reading::Gone, last + Duration::from_millis(20));
    assert!(!record.reached(1000 * MIB));
}

#[test]
fn a_copy_that_stood_still_has_not() {
    let (mut record, last) = steady(999 * MIB);
    record.note(written(999 * MIB), last + Duration::from_secs(3));
    record.note(written(999 * MIB), last + Duration::from_secs(6));
    record.note(Reading::Gone, last + Duration::from_secs(6));
    assert!(!record.reached(1000 * MIB));
}

#[test]
fn a_copy_that_went_on_after_a_halt_has() {
    let (mut record, last) = steady(999 * MIB);
    let again = last + Duration::from_millis(1500);
    for step in 0..=5_u32 {
        let position = (999 * MIB) + u64::from(step) * MIB / 10;
        record.note(written(position), again + step * Duration::from_millis(20));
    }
    record.note(Reading::Gone, again + Duration::from_millis(140));
    assert!(record.reached(1000 * MIB));
}

#[test]
fn a_copy_not_looked_at_for_long_has_only_what_was_seen() {
    let (mut record, last) = steady(999 * MIB);
    record.note(Reading::Gone, last + Duration::from_secs(1));
    assert!(!record.reached(1000 * MIB));
}

#[test]
fn closing_the_destination_is_the_end_of_copying() {
    let (mut record, last) = steady(999 * MIB);
    record.note(Reading::NotOpen, last + Duration::from_millis(20));
    assert!(record.runs());
    record.note(Reading::Gone, last + Duration::from_secs(60));
    assert!(record.reached(1000 * MIB));
}

#[test]
fn the_end_is_watched_more_closely() {
    let second = Duration::from_secs(1);
    assert!(!steady(500 * MIB).0.nears_its_end(second));
    assert!(steady(980 * MIB).0.nears_its_end(second));
    assert!(
        !steady(1000 * MIB).0.nears_its_end(second),
        "nothing is left to miss"
    );
    let mut fresh = Record::new(found(7, 7));
    assert!(
        !fresh.nears_its_end(second),
        "nothing written, nothing to miss"
    );
    fresh.note(written(MIB), Instant::now());
    assert!(fresh.nears_its_end(second), "it may be a fast one");
}

#[test]
fn the_end_of_a_source_that_is_smaller_than_its_volume_is_watched_as_closely() {
    let (mut record, _) = steady(980 * MIB);
    record.size = Some(1100 * MIB);
    assert!(record.nears_its_end(Duration::from_secs(1)));
    record.size = Some(500 * MIB);
    assert!(!record.nears_its_end(Duration::from_secs(1)));
}

#[test]
fn memory_is_bounded_and_the_oldest_that_is_gone_makes_room() {
    let mut memory = Memory::default();
    for start in 0..MEMORY_LIMIT as u64 {
        memory.add(found(7, start));
    }
    memory.add(found(8, 5000));
    assert_eq!(
        memory.records().len(),
        MEMORY_LIMIT,
        "what runs is not forgotten"
    );
    assert!(
        memory
            .get_mut(ProcessId {
                start: 5000,
                pid: 8
            })
            .is_none()
    );
    let now = Instant::now();
    for (start, age) in [(30, 5), (40, 9), (50, 1)] {
        let id = ProcessId { start, pid: 7 };
        memory
            .get_mut(id)
            .unwrap()
            .ends(now - Duration::from_secs(age));
    }
    memory.add(found(8, 5000));
    assert_eq!(memory.records().len(), MEMORY_LIMIT);
    assert!(memory.get_mut(ProcessId { start: 40, pid: 7 }).is_none());
    assert!(memory.get_mut(ProcessId { start: 30, pid: 7 }).is_some());
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
    let running: Vec<bool> = memory.records().iter().map(Record::runs).collect();
    assert_eq!(running, [false, true]);
}
