//! Which of the remembered dd is a volume's copy, which wiped the volume, and what the answer is then.
//!
//! Pure: the tracker makes sure that the remembered state is fresh. The table of all cases is at the head of
//! [`verdict`]; here are its rows about wipes without a copy.

use std::cmp::Reverse;
use std::path::Path;

use super::history::History;
use super::operands::Purpose;
use super::record::Record;
use crate::progress::device::Identity;
use crate::progress::memory::copy_store::CopyRecord;
use crate::progress::migration::KnownBy;
use crate::progress::migration::{self, MadeBy};
use crate::progress::proc::process::ProcessId;
use crate::progress::verdict::{self, CopyVerdict, WipesSeen, may_be_all_of, nothing_seen};
use crate::progress::{Answer, Question};

/// The running copies of the volume; the first one counts.
pub(in crate::progress) fn running(history: &History, question: &Question) -> Vec<ProcessId> {
    let mut copies: Vec<&Record> = history
        .candidates(question)
        .into_iter()
        .filter(|record| record.dd.purpose == Purpose::Copy && record.runs())
        .filter(|record| known_by(history, record, question).is_some())
        .collect();
    copies.sort_by_key(|record| Reverse(rank(record, question)));
    copies.iter().map(|record| record.dd.id).collect()
}

/// The verdict on the volume, by what is remembered.
pub(in crate::progress) fn decide(history: &History, question: &Question) -> CopyVerdict {
    let requested = history.volumes.requested(&question.volume_id);
    let running = running(history, question).first().copied();
    if let Some(copy) = running.and_then(|id| history.get(id)) {
        return verdict::of_copy(copy, WipesSeen::default(), question, requested);
    }
    let past_to = past_to(history, question);
    let is_past = |record: &Record| past_to.is_some_and(|past_to| record.dd.id <= past_to);
    let candidates = history.candidates(question);
    let (past, copies): (Vec<&Record>, Vec<&Record>) = candidates
        .iter()
        .copied()
        .filter(|record| was_copy_of(history, record, question))
        .partition(|record| is_past(record));
    let copy = copies
        .into_iter()
        .max_by_key(|record| rank(record, question));
    let wipes: Vec<&Record> = candidates
        .into_iter()
        .filter(|record| is_wipe_of(record, question) && !is_past(record))
        .filter(|wipe| copy.is_some() || !past.iter().any(|copy| follows(wipe, copy)))
        .collect();
    let recent = wipes.iter().any(|wipe| wipe.is_recent());
    // A failed wipe may have been that of a volume that was to be deleted.
    let (wipes, doubtful): (Vec<&Record>, Vec<&Record>) = wipes.into_iter().partition(|wipe| {
        !question.migrating || wipe.runs() || wipe.notes.confirmed || wipe.reached(question.size)
    });
    let Some(copy) = copy else {
        let unknown = CopyVerdict::Unseen(Answer::Unknown);
        return match () {
            () if !question.migrating => CopyVerdict::Unseen(nothing_seen(question)),
            () if recent && !wipes.is_empty() => CopyVerdict::Seen(Answer::Percent(100)),
            () if !wipes.is_empty() || !doubtful.is_empty() => unknown,
            () if may_have_begun(history, question) => unknown,
            () => CopyVerdict::Unseen(nothing_seen(question)),
        };
    };
    let wipes = WipesSeen {
        recent,
        completing: wipes.iter().any(|wipe| follows(wipe, copy)),
        doubtful: doubtful.iter().any(|wipe| follows(wipe, copy)),
    };
    verdict::of_copy(copy, wipes, question, requested)
}

/// Notes what the volume object said: for a running copy its volume and the volume's `host`; for a copy that is over,
/// that the volume does not migrate any more. A migration under another `host`, or after the volume was seen not to
/// migrate, is a later one.
pub(in crate::progress) fn note(history: &mut History, question: &Question) {
    if let Some(&id) = running(history, question).first() {
        let copy = history.get(id);
        let rule = copy.and_then(|copy| known_by(history, copy, question));
        history.update(id, |copy| {
            copy.notes.volume = Some(question.volume_id.clone());
            copy.notes.known_by = rule;
            copy.notes.goes_on(question);
        });
        return;
    }
    let past_to = past_to(history, question);
    let candidates = history.candidates(question).into_iter();
    let concerned: Vec<ProcessId> = candidates
        .filter(|record| concerns(history, record, question))
        .map(|record| record.dd.id)
        .collect();
    for id in concerned {
        history.update(id, |record| {
            if !question.migrating {
                record.notes.migration_over = true;
            } else if past_to.is_some_and(|past_to| id <= past_to) || !record.is_recent() {
                // The copy may be of another migration.
            } else if record.over {
                record.notes.completes(question);
            } else {
                record.notes.goes_on(question);
            }
        });
    }
}

/// The rule that attributes a dd to the volume, if one does. The caller's `src_path` counts only while the dd runs:
/// a kernel name may mean another volume afterwards. A volume noted of the dd stays.
fn known_by(history: &History, record: &Record, question: &Question) -> Option<KnownBy> {
    let source = &record.dd.source;
    if source.is_of(question) {
        return Some(KnownBy::Name);
    }
    let may_be_claimed = matches!(
        record.notes.known_by,
        None | Some(KnownBy::Path | KnownBy::Request)
    );
    if record.runs() && may_be_claimed && is_at(source, question.src_path.as_deref()) {
        return Some(KnownBy::Path);
    }
    if let Some(volume) = &record.notes.volume {
        let rule = record.notes.known_by.unwrap_or(KnownBy::Name);
        return (*volume == question.volume_id).then_some(rule);
    }
    if !source.may_be_unnamed_volume(&question.template()) {
        return None;
    }
    let others = history.meeting(&history.volumes.records(question));
    let others = others.into_iter().map(|other| &other.dd.source);
    let by_record = history.volumes.tells_of(question, source, others);
    by_record.then_some(KnownBy::Record)
}

fn was_copy_of(history: &History, record: &Record, question: &Question) -> bool {
    record.dd.purpose == Purpose::Copy
        && !record.runs()
        && record.seen.position.is_some()
        && known_by(history, record, question).is_some()
}

fn is_wipe_of(record: &Record, question: &Question) -> bool {
    record.dd.purpose == Purpose::Wipe && record.dd.destination.is_of(question)
}

/// Whether this dd is an ended copy, or a wipe, of the volume.
fn concerns(history: &History, record: &Record, question: &Question) -> bool {
    was_copy_of(history, record, question) || is_wipe_of(record, question)
}

/// Whether some copy may be this migration's: one of an unnamed disk and of the volume's size, or one of the volume
/// that was over before its position was read. Then the answer is unknown.
fn may_have_begun(history: &History, question: &Question) -> bool {
    let template = question.template();
    let requested = history.volumes.requested(&question.volume_id);
    let may_be_its_own = |record: &Record| {
        record.notes.volume.is_none()
            && may_be_all_of(record.dd.bytes, question)
            && record.dd.source.may_be_unnamed_volume(&template)
            && !history.volumes.names_another(question, &record.dd.source)
    };
    let unseen = |record: &Record| {
        record.seen.position.is_none() && known_by(history, record, question).is_some()
    };
    let candidates = history.candidates(question).into_iter();
    candidates.chain(history.unclaimed(question)).any(|record| {
        record.dd.purpose == Purpose::Copy
            && migration::may_be_of_this(record.evidence(question.size), question, requested)
            && (may_be_its_own(record) || unseen(record))
    })
}

/// Whether a wipe shows that a copy was completed: cinder wipes the old volume only after a complete copy. A wipe of
/// the copy's destination cleans up after a failure.
fn follows(wipe: &Record, copy: &Record) -> bool {
    wipe.dd.id.start >= copy.dd.id.start && !wipe.dd.destination.same_as(&copy.dd.destination)
}

/// The last copy or wipe of an earlier migration; all before it are earlier, too. cinder changes a volume's `host` when
/// a migration is complete, and cinder-api does not ask about one that is.
fn past_to(history: &History, question: &Question) -> Option<ProcessId> {
    let requested = history.volumes.requested(&question.volume_id);
    let is_past = |record: &&Record| {
        let made_by = migration::made_by(record.evidence(question.size), question, requested);
        concerns(history, record, question) && made_by == MadeBy::Earlier
    };
    if !question.migrating {
        return None;
    }
    let past = history.candidates(question).into_iter().filter(is_past);
    past.map(|record| record.dd.id).max()
}

fn is_at(identity: &Identity, path: Option<&Path>) -> bool {
    path.and_then(Path::to_str)
        .is_some_and(|path| identity.is(path))
}

/// Orders several copies of one volume, the one that counts last: by the call's `dest_path`, by its `src_path`, by
/// whether the destination is a device or has a volume's name (a backup goes to another file), by age.
fn rank(record: &Record, question: &Question) -> (bool, bool, bool, ProcessId) {
    let destination = &record.dd.destination;
    (
        is_at(destination, question.dest_path.as_deref()),
        is_at(&record.dd.source, question.src_path.as_deref()),
        destination.looks_like_a_volume() || destination.is_of(question),
        record.dd.id,
    )
}
