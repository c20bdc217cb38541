//! What of the memory survives the daemon, as it is written down.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::progress::device::Identity;
use crate::progress::file_based::copy::FileCopy;
use crate::progress::host_based::operands::Purpose;
use crate::progress::host_based::scan::Begin;
use crate::progress::proc::process::ProcessId;
use crate::progress::volumes::{KnownBy, KnownVolumes};

/// Changes whenever the meaning of what is written does; what has another number is not read.
pub(in crate::progress) const VERSION: u32 = 1;

/// All that is written down.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::progress) struct Saved {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// The boot of the node in which the processes ran.
    pub boot: String,
    /// One for each process remembered, the oldest first.
    pub records: Vec<SavedRecord>,
    /// Copies through open files.
    #[serde(default)]
    pub files: Vec<FileCopy>,
    /// What calls and operations told of volumes.
    #[serde(default)]
    pub volumes: KnownVolumes,
}

impl Saved {
    pub(in crate::progress) fn new(boot: &str, records: Vec<SavedRecord>) -> Self {
        Self {
            version: VERSION,
            boot: boot.to_owned(),
            records,
            files: Vec::new(),
            volumes: KnownVolumes::default(),
        }
    }
}

/// One process that was seen to copy or to wipe.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::progress) struct SavedRecord {
    /// The process.
    pub id: ProcessId,
    /// Copy or wipe.
    pub purpose: Purpose,
    /// What it reads.
    pub source: Identity,
    /// What it writes.
    pub destination: Identity,
    /// Bytes of one write.
    pub block: u64,
    /// Where in its source it ends.
    pub bytes: Option<u64>,
    /// Where it begins.
    #[serde(default)]
    pub begin: Begin,
    /// The last position seen, in its source.
    pub position: Option<u64>,
    /// How far it counts as having come; more than the position where it ended close to its end.
    pub reach: u64,
    /// The furthest it may have come, once it is over.
    #[serde(default)]
    pub at_most: Option<u64>,
    /// Whether it was seen to be gone.
    pub over: bool,
    /// When it was last sure to concern the migration that goes on.
    #[serde(default)]
    pub lately: Option<SystemTime>,
    /// The size of the volume that was last asked for.
    pub size: Option<u64>,
    /// The volume that was given this copy as its own.
    pub volume: Option<String>,
    /// By which rule.
    #[serde(default)]
    pub known_by: Option<KnownBy>,
    /// When it was seen to be gone.
    #[serde(default)]
    pub ended: Option<SystemTime>,
    /// When the volume's row was last changed, as told while this ran.
    #[serde(default)]
    pub updated_at: Option<SystemTime>,
    /// Whether the volume was asked for while this ran, and its migration went on.
    #[serde(default)]
    pub confirmed: bool,
    /// Whether the volume was attached when it was asked for.
    pub attached: bool,
    /// Where the volume was when it was first asked for.
    #[serde(default)]
    pub host: Option<String>,
    /// Whether the volume was asked for afterwards, when no migration went on any more.
    pub settled: bool,
}
