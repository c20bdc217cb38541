//! Attributes copies of unnamed disks to volumes: by the disk's number in the volume's record, or as the only copy that
//! fits a request.

use uuid::Uuid;

use super::Question;
use super::device::Identity;
use super::file_based::history::FileCopies;
use super::host_based::history::History;
use super::memory::copy_store::CopyRecord;
use super::memory::volumes::Eligible;
use super::migration::{KnownBy, MigrationNotes};
use super::proc::process::{self, ProcessId};

/// One copy, by dd or through open files.
#[derive(Debug, Clone, Copy)]
enum Which {
    Dd(ProcessId),
    Files(u64),
}

/// Attributes each unnamed copy to the only migration that can have made it, and takes that back when a second copy
/// fits the same migration.
pub(super) fn by_request(history: &mut History, files: &mut FileCopies) {
    let now = process::now();
    for which in eligible(history, files, |eligible| {
        history.volumes.doubtful(eligible, now)
    }) {
        give(history, files, which, None);
    }
    for (which, volume) in eligible(history, files, |eligible| {
        history.volumes.assigned(eligible, now)
    }) {
        give(history, files, which, Some((volume, KnownBy::Request)));
    }
}

/// Attributes a copy through open files to the volume whose record names the source disk. For a dd,
/// `decide::known_by` does this when the volume is asked for.
pub(super) fn by_record(history: &mut History, files: &mut FileCopies, question: &Question) {
    let template = question.template();
    let records = history.volumes.records(question);
    let met = files.meeting(&records);
    let sources = || {
        let by_dd = history.meeting(&records).into_iter();
        let through_files = met.iter().filter_map(|(_, copy)| copy.source());
        by_dd.filter_map(CopyRecord::source).chain(through_files)
    };
    let is_told_of = |disk: &Identity| {
        disk.may_be_unnamed_volume(&template) && history.volumes.tells_of(question, disk, sources())
    };
    let unknown = met.iter().filter(|(_, copy)| {
        copy.runs() && copy.notes.volume.is_none() && copy.source().is_some_and(is_told_of)
    });
    let known: Vec<u64> = unknown.map(|&(number, _)| number).collect();
    for number in known {
        let volume = question.volume_id.clone();
        let which = Which::Files(number);
        give(history, files, which, Some((volume, KnownBy::Record)));
    }
}

/// Passes the running copies of unnamed disks to `ask`, if there are any. This runs at each call, and mostly there are
/// none.
fn eligible<T>(
    history: &History,
    files: &FileCopies,
    ask: impl FnOnce(&Eligible<'_, Which>) -> Vec<T>,
) -> Vec<T> {
    let by_dd = history.running_unnamed().into_iter();
    let by_dd = by_dd.map(|record| (Which::Dd(record.dd.id), record as &dyn CopyRecord));
    let through_files = files.running_unnamed().into_iter();
    let through_files =
        through_files.map(|(number, copy)| (Which::Files(number), copy as &dyn CopyRecord));
    let unnamed: Vec<_> = by_dd.chain(through_files).collect();
    if unnamed.is_empty() {
        return Vec::new();
    }
    let of_volume = |volume_id: &str, ids: &[Uuid]| {
        let by_dd = history.of_volume(volume_id, ids).into_iter();
        let by_dd = by_dd.map(|record| record as &dyn CopyRecord);
        let through_files = files.of_volume(volume_id, ids).into_iter();
        by_dd
            .chain(through_files.map(|copy| copy as &dyn CopyRecord))
            .collect()
    };
    ask(&Eligible {
        unnamed,
        of_volume: &of_volume,
    })
}

/// Attributes a copy to a volume, or to none.
fn give(
    history: &mut History,
    files: &mut FileCopies,
    which: Which,
    volume: Option<(String, KnownBy)>,
) {
    let note = |notes: &mut MigrationNotes| (notes.volume, notes.known_by) = volume.unzip();
    match which {
        Which::Dd(id) => history.update(id, |record| note(&mut record.notes)),
        Which::Files(number) => files.update(number, |copy| note(&mut copy.notes)),
    };
}
