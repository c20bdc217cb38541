//! Gives copies that no name leads to, to the volumes whose they can only be: by a number in the volume's record,
//! or as the only copy that the only migration asked for can have made.

use super::Question;
use super::copy_store::CopyRecord;
use super::device::Identity;
use super::file_based::history::FileCopies;
use super::host_based::history::History;
use super::migration::MigrationNotes;
use super::proc::process::{self, ProcessId};
use super::volumes::KnownBy;

/// One copy, by whichever way.
#[derive(Debug, Clone, Copy)]
enum Which {
    Dd(ProcessId),
    Files(u64),
}

/// Gives each copy that nothing names to the only migration it can be of, and takes it away again where
/// there came to be two.
pub(super) fn by_request(history: &mut History, files: &mut FileCopies) {
    // Rare; and this is asked for at each call.
    if !history.unnamed().any(CopyRecord::runs) && !files.unnamed().any(CopyRecord::runs) {
        return;
    }
    let now = process::now();
    for which in history.volumes.doubtful(&all(history, files), now) {
        give(history, files, which, None);
    }
    for (which, volume) in history.volumes.assigned(&all(history, files), now) {
        give(history, files, which, Some((volume, KnownBy::Request)));
    }
}

/// Gives the volume the copy through open files of the disk that its record tells of. That by dd is found so when
/// it is asked for.
pub(super) fn by_record(history: &mut History, files: &mut FileCopies, question: &Question) {
    let template = question.template();
    let sources = || {
        let by_dd = history.unnamed().filter_map(CopyRecord::source);
        by_dd.chain(files.unnamed().filter_map(CopyRecord::source))
    };
    let is_told_of = |disk: &Identity| {
        disk.may_be_any(&template) && history.volumes.tells_of(question, disk, sources())
    };
    let unknown = files.copies().filter(|(_, copy)| {
        copy.runs() && copy.notes.volume.is_none() && copy.source().is_some_and(is_told_of)
    });
    let known: Vec<u64> = unknown.map(|(number, _)| number).collect();
    for number in known {
        let volume = question.volume_id.clone();
        let which = Which::Files(number);
        give(history, files, which, Some((volume, KnownBy::Record)));
    }
}

fn all<'a>(history: &'a History, files: &'a FileCopies) -> Vec<(Which, &'a dyn CopyRecord)> {
    let by_dd = history
        .records()
        .map(|record| (Which::Dd(record.dd.id), record as &dyn CopyRecord));
    let through_files = files
        .copies()
        .map(|(number, copy)| (Which::Files(number), copy as &dyn CopyRecord));
    by_dd.chain(through_files).collect()
}

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
