//! The format of the state file.
//!
//! Saved of a copy: its command line or files, its names, the last position, the notes on its migration, how it
//! ended, and its size. Saved of volumes: what calls and requests named.
//!
//! What a copy keeps in [`Unsaved`](crate::progress::memory::unsaved::Unsaved), or skips, is not saved: its recent
//! positions and so its pace, when it was last looked at, descriptors and folders, what the log has said. Nor are the
//! counts of how copies ended. So of a copy that ends while no daemon runs only the last saved position is known.

use serde::{Deserialize, Serialize};

use crate::progress::file_based::copy::FileCopy;
use crate::progress::host_based::record::Record;
use crate::progress::memory::volumes::KnownVolumes;

/// Changes whenever the meaning of the file does; a file with another number is not read.
pub(in crate::progress) const VERSION: u32 = 1;

/// All that is written down.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::progress) struct Saved {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// The boot of the node in which the processes ran.
    pub boot: String,
    /// One for each process remembered, the oldest first.
    pub records: Vec<Record>,
    /// Copies through open files.
    #[serde(default)]
    pub files: Vec<FileCopy>,
    /// What calls and operations told of volumes.
    #[serde(default)]
    pub volumes: KnownVolumes,
}

impl Saved {
    pub(in crate::progress) fn new(boot: &str, records: Vec<Record>) -> Self {
        Self {
            version: VERSION,
            boot: boot.to_owned(),
            records,
            files: Vec::new(),
            volumes: KnownVolumes::default(),
        }
    }
}
