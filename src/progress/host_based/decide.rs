//! Which of the processes seen is a volume's copy, and what that means for the answer.
//!
//! Pure: the tracker sees to it that what is remembered is fresh.
//!
//! 0 is said only where it is known that nothing was copied: an operator kills a migration for it. The first
//! row that fits counts; `file_based::history` decides by the same table, without the rows about wipes, and
//! `tests::never_zero` asks both for each row.
//!
//! | the volume | seen | answer |
//! |---|---|---|
//! | any | its copy runs | percent; unknown if that began before the migration was asked for |
//! | migrating | its copy or its wipe is over, and not known to be this migration's: more than ten minutes ago, or a server has the volume since, or its row was written since | unknown |
//! | any | its copy is over, and the old volume is wiped | 100 |
//! | any | its copy is over and had come to its end | 100 |
//! | migrating | its copy is over, and a wipe ended early unasked: that may have been to delete the volume | unknown |
//! | any | its copy is over | the last position |
//! | migrating | no copy, and the volume is wiped, or was when it was asked for | 100 |
//! | migrating | no copy, and a wipe ended early unasked | unknown |
//! | migrating | a copy that may be its own: of a disk that nothing names, or never seen to move | unknown |
//! | attached | nothing: nova and qemu copy it | unknown |
//! | migrating, in a cluster | nothing: a peer may copy it | unknown |
//! | migrating, in Ceph | nothing: cinder-volume may copy it by way of sockets | unknown |
//! | completing | nothing: the copy is made | unknown |
//! | any | not every process could be looked at | an error, which is unknown where open files tell nothing either |
//! | any | nothing | 0 |
//!
//! What belongs to an earlier migration counts as not seen: [`migration::made_by`].

use std::cmp::Reverse;
use std::path::Path;

use super::history::Memory;
use super::operands::Purpose;
use super::record::Record;
use crate::progress::device::Identity;
use crate::progress::migration::{self, MadeBy};
use crate::progress::proc::process::ProcessId;
use crate::progress::volumes::KnownBy;
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
        .filter(|record| known_by(memory, record, question).is_some())
        .collect();
    copies.sort_by_key(|record| Reverse(rank(record, question)));
    copies.iter().map(|record| record.id).collect()
}

/// What is to be said of the volume as things stand.
pub(in crate::progress) fn decide(memory: &Memory, question: &Question) -> Verdict {
    let requested = memory.volumes.requested(&question.volume_id);
    if let Some(&id) = running(memory, question).first() {
        // A dd may outlive the cinder-volume that started it, and the migration with that.
        if question.migrating && requested.is_some_and(|at| migration::precedes(id.start, at)) {
            return Verdict::Unseen(Answer::Unknown);
        }
        let position = memory.get(id).and_then(Record::position);
        return Verdict::Seen(percent(position.unwrap_or(0), question.size));
    }
    let past_to = past_to(memory, question);
    let is_past = |record: &Record| past_to.is_some_and(|past_to| record.id <= past_to);
    let candidates = memory.candidates(question);
    let (past, copies): (Vec<&Record>, Vec<&Record>) = candidates
        .iter()
        .copied()
        .filter(|record| was_copy_of(memory, record, question))
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
    // A wipe that failed may have been that of a volume which was to be deleted.
    let (wipes, doubtful): (Vec<&Record>, Vec<&Record>) = wipes.into_iter().partition(|wipe| {
        !question.migrating || wipe.runs() || wipe.confirmed || wipe.reached(question.size)
    });
    let made_by =
        |copy: &Record| migration::made_by(copy.facts(question.size), question, requested);
    match copy {
        // A server has it now, and had not when this copy was made: nova copies it, and dd's result is old.
        Some(copy) if question.attached && question.migrating && !copy.attached => {
            Verdict::Unseen(Answer::Unknown)
        }
        Some(copy) if wipes.iter().any(|wipe| follows(wipe, copy)) => {
            Verdict::Seen(Answer::Percent(100))
        }
        Some(copy) if made_by(copy) == MadeBy::Either => Verdict::Unseen(Answer::Unknown),
        Some(copy) if copy.reached(question.size) => Verdict::Seen(Answer::Percent(100)),
        Some(copy) if doubtful.iter().any(|wipe| follows(wipe, copy)) => {
            Verdict::Unseen(Answer::Unknown)
        }
        Some(copy) => Verdict::Seen(percent(copy.position().unwrap_or(0), question.size)),
        None if question.migrating && !wipes.is_empty() => Verdict::Seen(Answer::Percent(100)),
        None if question.migrating && !doubtful.is_empty() => Verdict::Unseen(Answer::Unknown),
        None if question.migrating && may_have_begun(memory, question) => {
            Verdict::Unseen(Answer::Unknown)
        }
        None => Verdict::Unseen(nothing_seen(question)),
    }
}

/// The answer where neither a copy nor anything that may be one was seen: 0, unless others make it, it cannot be
/// seen, or it is made.
pub(in crate::progress) fn nothing_seen(question: &Question) -> Answer {
    let out_of_sight = question.migrating && (question.clustered || question.without_device);
    if question.attached || out_of_sight || question.completing {
        Answer::Unknown
    } else {
        Answer::Percent(0)
    }
}

/// Notes on what was seen what the volume object said: on a running copy whose it is, and where the
/// volume was then; on what is over that the volume was seen not to migrate. By the last two a later
/// migration is known to be another one.
pub(in crate::progress) fn note(memory: &mut Memory, question: &Question) {
    if let Some(&id) = running(memory, question).first() {
        let rule = memory
            .get(id)
            .and_then(|copy| known_by(memory, copy, question));
        memory.update(id, |copy| {
            copy.volume = Some(question.volume_id.clone());
            copy.known_by = rule;
            copy.attached |= question.attached;
            copy.updated_at = question.updated_at.or(copy.updated_at);
            copy.host = copy.host.take().or_else(|| question.host.clone());
        });
        return;
    }
    let past_to = past_to(memory, question);
    let candidates = memory.candidates(question).into_iter();
    let concerned: Vec<ProcessId> = candidates
        .filter(|record| concerns(memory, record, question))
        .map(|record| record.id)
        .collect();
    for id in concerned {
        memory.update(id, |record| {
            if !question.migrating {
                record.settled = true;
            } else if past_to.is_none_or(|past_to| record.id > past_to) && record.is_recent() {
                record.goes_on();
                record.host = record.host.take().or_else(|| question.host.clone());
                if record.runs() {
                    record.confirmed = true;
                    record.updated_at = question.updated_at.or(record.updated_at);
                }
            }
        });
    }
}

/// `floor(position * 100 / size)`, at most 100.
pub(in crate::progress) fn percent(position: u64, size: u64) -> Answer {
    let percent = u128::from(position) * 100 / u128::from(size.max(1));
    Answer::Percent(u8::try_from(percent.min(100)).unwrap_or(100))
}

/// By which rule a dd reads the volume, if it does. A path that the caller names counts only while it runs: a
/// kernel name may mean another volume afterwards. What was once known of a process stays known.
fn known_by(memory: &Memory, record: &Record, question: &Question) -> Option<KnownBy> {
    let source = &record.source;
    if source.is_of(question) {
        return Some(KnownBy::Name);
    }
    let may_be_claimed = matches!(
        record.known_by,
        None | Some(KnownBy::Path | KnownBy::Request)
    );
    if record.runs() && may_be_claimed && is_at(source, question.src_path.as_deref()) {
        return Some(KnownBy::Path);
    }
    if let Some(volume) = &record.volume {
        let rule = record.known_by.unwrap_or(KnownBy::Name);
        return (*volume == question.volume_id).then_some(rule);
    }
    let others = memory.unnamed().map(|other| &other.source);
    let by_record = source.may_be_any(&question.template())
        && memory.volumes.tells_of(question, source, others);
    by_record.then_some(KnownBy::Record)
}

fn was_copy_of(memory: &Memory, record: &Record, question: &Question) -> bool {
    record.purpose == Purpose::Copy
        && !record.runs()
        && record.position().is_some()
        && known_by(memory, record, question).is_some()
}

fn wipes(record: &Record, question: &Question) -> bool {
    record.purpose == Purpose::Wipe && record.destination.is_of(question)
}

/// Whether it is the volume's and over, or wipes what the volume left behind.
fn concerns(memory: &Memory, record: &Record, question: &Question) -> bool {
    was_copy_of(memory, record, question) || wipes(record, question)
}

/// Whether there is a copy that may be this migration's, for all that can be told: of a disk that nothing
/// names, and of the volume's size, or one of the volume that came and went between two looks. Neither 0
/// nor that copy's progress would be true.
fn may_have_begun(memory: &Memory, question: &Question) -> bool {
    let template = question.template();
    let requested = memory.volumes.requested(&question.volume_id);
    let may_be_its_own = |record: &Record| {
        record.volume.is_none()
            && record.source.may_be_any(&template)
            && !memory.volumes.names_another(question, &record.source)
            && may_be_all_of(record.bytes, question)
    };
    let unseen = |record: &Record| {
        record.position().is_none() && known_by(memory, record, question).is_some()
    };
    memory.candidates(question).into_iter().any(|record| {
        record.purpose == Purpose::Copy
            && migration::may_be_of_this(
                record.facts(question.size),
                record.lately,
                question,
                requested,
            )
            && (may_be_its_own(record) || unseen(record))
    })
}

/// Whether so many bytes may be the whole volume.
pub(in crate::progress) fn may_be_all_of(bytes: Option<u64>, question: &Question) -> bool {
    bytes.is_none_or(|bytes| bytes <= question.size && question.size - bytes <= ENCRYPTION_TAKES)
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
    let requested = memory.volumes.requested(&question.volume_id);
    let is_past = |record: &&Record| {
        let made_by = migration::made_by(record.facts(question.size), question, requested);
        concerns(memory, record, question) && made_by == MadeBy::Earlier
    };
    if !question.migrating {
        return None;
    }
    let past = memory.candidates(question).into_iter().filter(is_past);
    past.map(|record| record.id).max()
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
        destination.looks_like_a_volume() || destination.is_of(question),
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
