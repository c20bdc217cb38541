//! Which of the processes seen is a volume's copy, and what that means for the answer.
//!
//! Pure: the tracker sees to it that what is remembered is fresh. What the volume object says helps
//! where processes cannot: a copy that is over belongs to the past once the volume was seen not to
//! migrate, and an attached volume is copied by others than dd.

use std::cmp::Reverse;
use std::path::Path;

use super::history::Memory;
use super::operands::Purpose;
use super::record::Record;
use crate::progress::device::Identity;
use crate::progress::proc::process::ProcessId;
use crate::progress::{Answer, Question};

/// How much smaller an encrypted volume is than its size: LUKS2's header takes 16 MiB.
const ENCRYPTION_TAKES: u64 = 32 << 20;

/// An answer, and what it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::progress) enum Verdict {
    /// On something that was seen.
    Seen(Answer),
    /// On nothing having been seen: worth nothing if some process could not be looked at.
    Unseen(Answer),
}

/// The copies of the volume that run, the one that counts first.
pub(in crate::progress) fn running(memory: &Memory, question: &Question) -> Vec<ProcessId> {
    let mut copies: Vec<&Record> = memory
        .candidates(question)
        .into_iter()
        .filter(|record| record.purpose == Purpose::Copy && record.runs())
        .filter(|record| reads(record, question))
        .collect();
    copies.sort_by_key(|record| Reverse(rank(record, question)));
    copies.iter().map(|record| record.id).collect()
}

/// What is to be said of the volume as things stand.
pub(in crate::progress) fn decide(memory: &Memory, question: &Question) -> Verdict {
    if let Some(&id) = running(memory, question).first() {
        let position = memory.get(id).and_then(Record::position);
        return Verdict::Seen(percent(position.unwrap_or(0), question.size));
    }
    let past_to = past_to(memory, question);
    let is_past = |record: &Record| past_to.is_some_and(|past_to| record.id <= past_to);
    let candidates = memory.candidates(question);
    let (past, copies): (Vec<&Record>, Vec<&Record>) = candidates
        .iter()
        .copied()
        .filter(|record| was_copy_of(record, question))
        .partition(|record| is_past(record));
    let copy = copies
        .into_iter()
        .max_by_key(|record| rank(record, question));
    let wipes: Vec<&Record> = candidates
        .into_iter()
        .filter(|record| wipes(record, question) && !is_past(record))
        .filter(|wipe| copy.is_some() || !past.iter().any(|copy| follows(wipe, copy)))
        .collect();
    // What is long over may be of this migration, whose end takes its time, or of one before it.
    let is_recent =
        copy.is_some_and(Record::is_recent) || wipes.iter().any(|wipe| wipe.is_recent());
    if question.migrating && !is_recent && (copy.is_some() || !wipes.is_empty()) {
        return Verdict::Unseen(Answer::Unknown);
    }
    match copy {
        // A server has it now, and had not when this copy was made: nova copies it, and dd's result is old.
        Some(copy) if question.attached && question.migrating && !copy.attached => {
            Verdict::Unseen(Answer::Unknown)
        }
        Some(copy)
            if copy.reached(question.size) || wipes.iter().any(|wipe| follows(wipe, copy)) =>
        {
            Verdict::Seen(Answer::Percent(100))
        }
        Some(copy) => Verdict::Seen(percent(copy.position().unwrap_or(0), question.size)),
        None if question.migrating && !wipes.is_empty() => Verdict::Seen(Answer::Percent(100)),
        None if question.attached => Verdict::Unseen(Answer::Unknown),
        None if question.migrating && may_run_unnamed(memory, question) => {
            Verdict::Unseen(Answer::Unknown)
        }
        None => Verdict::Unseen(Answer::Percent(0)),
    }
}

/// Notes on what was seen what the volume object said: on a running copy whose it is, and where the
/// volume was then; on what is over that the volume was seen not to migrate. By the last two a later
/// migration is known to be another one.
pub(in crate::progress) fn note(memory: &mut Memory, question: &Question) {
    if let Some(&id) = running(memory, question).first() {
        memory.update(id, |copy| {
            copy.volume = Some(question.volume_id.clone());
            copy.attached |= question.attached;
            copy.host = copy.host.take().or_else(|| question.host.clone());
        });
        return;
    }
    let past_to = past_to(memory, question);
    let candidates = memory.candidates(question).into_iter();
    let concerned: Vec<ProcessId> = candidates
        .filter(|record| concerns(record, question))
        .map(|record| record.id)
        .collect();
    for id in concerned {
        memory.update(id, |record| {
            if !question.migrating {
                record.settled = true;
            } else if past_to.is_none_or(|past_to| record.id > past_to) && record.is_recent() {
                record.goes_on();
                record.host = record.host.take().or_else(|| question.host.clone());
            }
        });
    }
}

/// `floor(position * 100 / size)`, at most 100.
pub(in crate::progress) fn percent(position: u64, size: u64) -> Answer {
    let percent = u128::from(position) * 100 / u128::from(size.max(1));
    Answer::Percent(u8::try_from(percent.min(100)).unwrap_or(100))
}

/// Whether a dd reads the volume. Names in a `src_path` count only while it runs: a kernel name may mean
/// another volume afterwards.
fn reads(record: &Record, question: &Question) -> bool {
    is_named(&record.source, question) || is_at(&record.source, question.src_path.as_deref())
}

fn was_copy_of(record: &Record, question: &Question) -> bool {
    record.purpose == Purpose::Copy
        && !record.runs()
        && record.position().is_some()
        && (is_named(&record.source, question)
            || record.volume.as_deref() == Some(question.volume_id.as_str()))
}

fn wipes(record: &Record, question: &Question) -> bool {
    record.purpose == Purpose::Wipe && is_named(&record.destination, question)
}

/// Whether it is the volume's and over, or wipes what the volume left behind.
fn concerns(record: &Record, question: &Question) -> bool {
    was_copy_of(record, question) || wipes(record, question)
}

/// Whether there is a copy that may be the volume's, for all that can be told: of a disk that nothing
/// names, and of the volume's size. Neither 0 nor that copy's progress would be true.
fn may_run_unnamed(memory: &Memory, question: &Question) -> bool {
    let template = question.template();
    let may_be_all_of_it =
        |bytes: u64| bytes <= question.size && question.size - bytes <= ENCRYPTION_TAKES;
    memory.unnamed().any(|record| {
        record.purpose == Purpose::Copy
            && record.volume.is_none()
            && record.bytes.is_none_or(may_be_all_of_it)
            && record.is_recent()
            && record.source.may_be_any(&template)
    })
}

/// Whether a wipe says that a copy was completed: cinder wipes the old volume after the copy, and only
/// then. Wiping what the copy has written would be tidying up after a failure.
fn follows(wipe: &Record, copy: &Record) -> bool {
    wipe.id.start >= copy.id.start && !wipe.destination.same_as(&copy.destination)
}

/// The last of what belongs to migrations before the one that goes on, and all before it with it:
/// cinder changes a volume's host when a migration is through, and cinder-api does not ask about one
/// that is.
fn past_to(memory: &Memory, question: &Question) -> Option<ProcessId> {
    let is_past = |record: &&Record| {
        concerns(record, question)
            && (record.settled || question.has_moved_from(record.host.as_deref()))
    };
    if !question.migrating {
        return None;
    }
    let past = memory.candidates(question).into_iter().filter(is_past);
    past.map(|record| record.id).max()
}

fn is_named(identity: &Identity, question: &Question) -> bool {
    question
        .names
        .iter()
        .any(|name| identity.names_volume(name))
}

fn is_at(identity: &Identity, path: Option<&Path>) -> bool {
    path.and_then(Path::to_str)
        .is_some_and(|path| identity.is(path))
}

/// Orders several copies of one volume: those on the paths asked for, then those to a device or what
/// has a volume's name (rather than to another file, as a backup goes), then the newest.
fn rank(record: &Record, question: &Question) -> (bool, bool, bool, ProcessId) {
    let destination = &record.destination;
    (
        is_at(destination, question.dest_path.as_deref()),
        is_at(&record.source, question.src_path.as_deref()),
        destination.looks_like_a_volume() || is_named(destination, question),
        record.id,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percents_are_rounded_down_and_end_at_100() {
        let size = 1 << 30;
        assert_eq!(percent(0, size), Answer::Percent(0));
        assert_eq!(percent(size / 100, size), Answer::Percent(0));
        assert_eq!(percent(size / 100 + 1, size), Answer::Percent(1));
        assert_eq!(percent(size - 1, size), Answer::Percent(99));
        assert_eq!(percent(size, size), Answer::Percent(100));
        assert_eq!(percent(size + 1, size), Answer::Percent(100));
        assert_eq!(percent(u64::MAX, u64::MAX), Answer::Percent(100));
        assert_eq!(percent(u64::MAX - 1, u64::MAX), Answer::Percent(99));
    }

    proptest! {
        #[test]
        fn no_position_leads_out_of_0_to_100(position: u64, size: u64) {
            prop_assert!(matches!(percent(position, size), Answer::Percent(0..=100)));
        }
    }
}
