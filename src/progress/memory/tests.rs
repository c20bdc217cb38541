//! The index finds what a comparison with all remembered copies finds.

use std::time::{Duration, SystemTime};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;
use tokio::time::Instant;

use crate::progress::device::{Hardware, Identity};
use crate::progress::file_based::copy::{End, Ends, FileCopy};
use crate::progress::file_based::history::FileCopies;
use crate::progress::file_based::open_files::OpenFile;
use crate::progress::host_based::history::History;
use crate::progress::host_based::operands::Purpose;
use crate::progress::host_based::record::Record;
use crate::progress::host_based::scan::{Begin, DdFacts, FoundDd};
use crate::progress::host_based::{decide, note, running};
use crate::progress::memory::volumes::{KnownVolumes, MigrationRequest};
use crate::progress::migration::{KnownBy, MigrationNotes};
use crate::progress::proc::fdinfo;
use crate::progress::proc::process::{self, ProcessId, Ticks};
use crate::progress::verdict::CopyVerdict;
use crate::progress::{Question, Roots, assign};

const GIB: u64 = 1 << 30;

/// Longer ago than a migration takes to complete.
const LONG_AGO: Duration = Duration::from_secs(3600);

const TEMPLATE: &str = "volume-%s";

/// The id of one of a few volumes.
fn id(volume: u8) -> String {
    format!("b5012f4a-d256-45a1-8370-86a6dd7e6dd{volume}")
}

/// Numbers of disks in volumes' records.
const RECORDS: [&str; 4] = [
    "",
    "60060e8010049cfd0050060e00000001",
    "60060e8010049cfd0050060e00000002",
    "10.0.2.15:3260,2 iqn.2010-10.org.openstack:all 7",
];

fn hardware(record: usize) -> Hardware {
    Hardware::of_record([RECORDS[record]])
}

/// The source of a made-up copy.
#[derive(Debug, Clone)]
enum MadeUpSource {
    /// A device with a volume's name.
    Named(u8),
    /// A disk with the numbers of one of the records, if any. One of its names may contain the id of a volume.
    Disk {
        number: u16,
        record: usize,
        id: Option<u8>,
    },
}

impl MadeUpSource {
    fn identity(&self) -> Identity {
        match self {
            Self::Named(volume) => {
                let path = format!("/dev/no-such-group/volume-{}", id(*volume));
                Identity::of(&Roots::default(), &path)
            }
            Self::Disk {
                number,
                record,
                id: named,
            } => {
                let disk = json!({
                    "aliases": [format!("/dev/sd{number}")],
                    "inode": null,
                    "bytes": null,
                    "device": true,
                    "traced": true,
                    "nameless": true,
                    "hardware": serde_json::to_value(hardware(*record)).unwrap(),
                });
                let mut disk: Identity = serde_json::from_value(disk).unwrap();
                if let Some(volume) = named {
                    disk.add(format!("/dev/disk/by-id/scsi-x{}", id(*volume)));
                }
                disk
            }
        }
    }
}

/// A made-up copy, by dd or through open files.
#[derive(Debug, Clone)]
struct MadeUpCopy {
    source: MadeUpSource,
    bytes: Option<u64>,
    position: Option<u64>,
    begun: Ticks,
    wipes: bool,
    runs: bool,
    notes: (Option<u8>, Option<KnownBy>, bool, bool),
}

impl MadeUpCopy {
    fn notes(&self) -> MigrationNotes {
        let (volume, known_by, recent, migration_over) = self.notes;
        let age = if recent { Duration::ZERO } else { LONG_AGO };
        let ended = (!self.runs).then(|| SystemTime::now() - age);
        // Only copies of unnamed disks are assigned by a request.
        let named = matches!(self.source, MadeUpSource::Named(_));
        let may_be = |rule: &KnownBy| volume.is_some() && !(named && *rule == KnownBy::Request);
        MigrationNotes {
            volume: volume.map(id),
            known_by: known_by.filter(may_be),
            migration_over,
            ended,
            last_confirmed: ended,
            ..MigrationNotes::default()
        }
    }

    fn by_dd(&self, number: i32) -> Record {
        let dd = DdFacts {
            id: ProcessId {
                start: self.begun,
                pid: number,
            },
            purpose: if self.wipes {
                Purpose::Wipe
            } else {
                Purpose::Copy
            },
            source: self.source.identity(),
            destination: self.source.identity(),
            block: 1 << 20,
            bytes: self.bytes,
            begin: Begin::default(),
        };
        let written = self.position.map(|position| fdinfo::Found {
            fd: 1,
            position,
            sure: true,
        });
        let at = Instant::now();
        let mut record = Record::new(FoundDd { dd, written, at });
        record.over = !self.runs;
        record.notes = self.notes();
        record
    }

    fn through_files(&self, number: i32) -> FileCopy {
        let ends = Ends {
            source: self.source.identity(),
            destination: Identity::default(),
            bytes: self.bytes,
        };
        let file = OpenFile {
            id: ProcessId {
                start: 1,
                pid: number,
            },
            fd: 7,
            position: self.position.unwrap_or_default(),
            reads: false,
            writes: true,
            moves: true,
            identity: Identity::default(),
            place: None,
            mark: Default::default(),
        };
        let mut copy = FileCopy::between(ends, &file, Instant::now(), Some(self.begun));
        copy.file.begun = Some(self.begun);
        copy.notes = self.notes();
        copy.end = (!self.runs).then_some(End::Closed);
        copy
    }
}

fn source() -> impl Strategy<Value = MadeUpSource> {
    let named = (0..3_u8).prop_map(MadeUpSource::Named);
    let disk = (0..6_u16, 0..RECORDS.len(), option::weighted(0.2, 0..3_u8));
    let disk = disk.prop_map(|(number, record, id)| MadeUpSource::Disk { number, record, id });
    prop_oneof![1 => named, 3 => disk]
}

/// A size of a volume or of a copy.
fn size() -> impl Strategy<Value = u64> {
    select(vec![GIB, GIB - (16 << 20), GIB + 1, 2 * GIB, 1])
}

fn copy() -> impl Strategy<Value = MadeUpCopy> {
    let rule = select(vec![
        KnownBy::Name,
        KnownBy::Path,
        KnownBy::Record,
        KnownBy::Request,
    ]);
    let notes = (
        option::weighted(0.3, 0..3_u8),
        option::of(rule),
        any::<bool>(),
        prop::bool::weighted(0.1),
    );
    (
        source(),
        option::weighted(0.8, size()),
        option::weighted(0.8, 0..GIB),
        0..4_u64,
        prop::bool::weighted(0.1),
        any::<bool>(),
        notes,
    )
        .prop_map(|(source, bytes, position, begun, wipes, runs, notes)| {
            // Some began long ago, some just now.
            let begun = process::now().saturating_sub(begun * 1000);
            MadeUpCopy {
                source,
                bytes,
                position,
                begun,
                wipes,
                runs,
                notes,
            }
        })
}

fn request() -> impl Strategy<Value = (MigrationRequest, Ticks)> {
    (0..3_u8, size(), 0..RECORDS.len(), any::<bool>(), 0..4_u64).prop_map(
        |(volume, size, record, attached, ago)| {
            let request = MigrationRequest {
                volume_id: id(volume),
                ids: vec![id(volume)],
                size,
                record: hardware(record),
                attached,
                volume_name_template: TEMPLATE.to_owned(),
            };
            (request, process::now().saturating_sub(ago * 1000))
        },
    )
}

fn question() -> impl Strategy<Value = Question> {
    let path = option::weighted(0.2, 0..6_u16);
    (0..3_u8, size(), 0..RECORDS.len(), any::<bool>(), path).prop_map(
        |(volume, size, record, migrating, path)| Question {
            record: hardware(record),
            migrating,
            src_path: path.map(|number| format!("/dev/sd{number}").into()),
            ..Question::about(&id(volume), &format!("volume-{}", id(volume)), size)
        },
    )
}

/// All results of a question: the running copies, the verdicts, and the notes of each copy.
#[derive(Debug, PartialEq)]
struct AllTold {
    running: Vec<ProcessId>,
    verdicts: [CopyVerdict; 2],
    notes: Vec<(Option<String>, Option<KnownBy>, bool, bool)>,
}

fn told(history: &mut History, files: &mut FileCopies, question: &Question) -> AllTold {
    history.volumes.hear(question, process::now());
    assign::by_record(history, files, question);
    assign::by_request(history, files);
    let requested = history.volumes.requested(&question.volume_id);
    let running = running(history, question);
    let verdicts = [decide(history, question), files.decide(question, requested)];
    note(history, question);
    let by_dd = history.records().map(|record| &record.notes);
    let through_files = files.copies().map(|(_, copy)| &copy.notes);
    let known = |notes: &MigrationNotes| {
        let volume = notes.volume.clone();
        (
            volume,
            notes.known_by,
            notes.migration_over,
            notes.confirmed,
        )
    };
    AllTold {
        running,
        verdicts,
        notes: by_dd.chain(through_files).map(known).collect(),
    }
}

proptest! {
    #[test]
    fn no_question_is_answered_otherwise(
        by_dd in vec(copy(), 0..12),
        through_files in vec(copy(), 0..6),
        requests in vec(request(), 0..3),
        questions in vec(question(), 1..4),
    ) {
        let by_dd: Vec<Record> = (1..).zip(&by_dd).map(|(pid, copy)| copy.by_dd(pid)).collect();
        let through_files: Vec<FileCopy> =
            (100..).zip(&through_files).map(|(pid, copy)| copy.through_files(pid)).collect();
        let mut volumes = KnownVolumes::default();
        for (request, at) in requests {
            volumes.request(request, at);
        }
        let mut history = History::restored(by_dd.clone(), volumes.clone());
        let mut files = FileCopies::restored(through_files.clone());
        let mut all_of_it = History::restored(by_dd, volumes).unindexed();
        let mut all_files = FileCopies::restored(through_files).unindexed();
        for question in questions {
            let found = told(&mut history, &mut files, &question);
            let expected = told(&mut all_of_it, &mut all_files, &question);
            prop_assert_eq!(found, expected, "{:?}", question);
        }
    }
}
