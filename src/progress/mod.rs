//! How far a copy is, seen from outside, in the process that makes it.
//!
//! cinder-volume copies a volume with `dd` and reports nothing until it ends. From outside the position of the
//! descriptor that dd writes to can be seen, in `/proc/<pid>/fdinfo/<fd>`. A volume is also copied through files that
//! cinder-volume or qemu-img has open (`file_based`), or by the storage, which a command asks (`driver_based`).
//! Each difficulty has one place here:
//!
//! - *What is the answer?* The table at the head of `verdict`; a wipe's part in it: `host_based::decide`.
//! - dd is often given kernel names (`if=/dev/sdb`), so a path must be traced back to a volume: `device`.
//! - Some disks bear no volume's name: `assign` attributes their copies, by the number in the volume's record or as the
//!   only copy that fits a request for a migration.
//! - dd also probes, wipes and backs up the same volume: `host_based::operands` tells these apart,
//!   `host_based::decide` chooses among the rest.
//! - No command line shows a copy through open files: `file_based::pairs` finds its two ends.
//! - A volume migrates more than once: `migration` tells whether a copy, by dd or through open files, was made by
//!   cinder's current migration of the volume or by an earlier one.
//! - At the copy's end the process and all its files vanish: `memory` keeps what was last seen, of copies and of the
//!   volumes that calls and requests named; `state` saves it over a restart of the daemon, and
//!   [`Tracker::watch`](crate::progress::Tracker::watch) makes sure it was seen late enough.
//!
//! A read about a process can hang for as long as that process is stuck in the kernel, and a file system that is gone
//! hangs its readers. So no async task makes such a read: `proc::bounded` runs a batch of them on another thread, under
//! a time limit for each, and remembers which processes hang. Only files that wait for no process are read directly:
//! `/proc/stat`, and this process's own `/proc/self/ns/pid`.

/// Whether processes can be looked at.
mod access;
/// Attributes copies of disks without a volume's name.
mod assign;
/// Which volume a path means.
mod device;
/// Copies that the storage makes itself, told by a command.
mod driver_based;
/// Copies that cinder-volume or qemu-img makes through open files.
mod file_based;
/// Copies that dd makes.
mod host_based;
/// The log lines of each copy.
mod journal;
/// The copies and volumes seen so far, and how they are found by volume.
mod memory;
/// Whether a copy was made by the volume's current migration or an earlier one.
mod migration;
/// How far a copy was seen, and how far it may have come since.
mod pace;
/// `/proc`, and nothing else.
mod proc;
/// The copies that run on this node, for `status` and the metrics.
mod report;
/// How fast copies are, and whether they move at all.
pub mod speed;
/// What survives a restart of the daemon.
mod state;
/// Entry point: answers questions, keeps the copies up to date.
mod tracker;
/// Whose dd may be cinder's.
mod users;
/// The table of answers: what was seen of a copy, and what is answered then.
mod verdict;

/// The rules of this room, tested on made-up nodes.
#[cfg(test)]
mod tests;

pub use access::{Container, Daemon, NodeAccess, access};
pub use device::Hardware;
pub use driver_based::DriverCall;
pub use journal::{CopyEnd, EndedCopies};
pub use memory::volumes::MigrationRequest;
pub use migration::KnownBy;
pub use proc::error::{ProgressError, Trouble};
pub use report::{Copies, CopyMethod, LastSeen, RunningCopy};
pub use tracker::Tracker;
pub use users::Users;

use std::path::PathBuf;
use std::time::SystemTime;

/// What of the node is read: where the kernel's file systems are (a test gives folders of its own), and the users
/// whose dd counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// The process file system, normally `/proc`.
    pub proc: PathBuf,
    /// The device model, normally `/sys`.
    pub sys: PathBuf,
    /// The device nodes, normally `/dev`. A path `/dev/…` in a command line is looked up here.
    pub dev: PathBuf,
    /// The users whose dd counts; by default root, cinder and this process's own user.
    pub users: Users,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            proc: PathBuf::from("/proc"),
            sys: PathBuf::from("/sys"),
            dev: PathBuf::from("/dev"),
            users: Users::default(),
        }
    }
}

/// A question about one volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The volume's id; used in the log and to recognise a copy that was found by `src_path`.
    pub volume_id: String,
    /// `volume_name_template` rendered with `name_id` first, then with `id` if that differs.
    pub names: Vec<String>,
    /// `name_id`, then `id` if that differs: a disk that bears one of them is the volume's.
    pub ids: Vec<String>,
    /// The volume's size in bytes, above 0.
    pub size: u64,
    /// The volume object says that it is attached to a server: nova and qemu copy it then, not dd.
    pub attached: bool,
    /// The volume object says that a migration is going on.
    pub migrating: bool,
    /// `host@backend#pool` of the volume object: where the volume was before the migration, until that is complete.
    /// A copy seen under another host belongs to an earlier migration.
    pub host: Option<String>,
    /// When the volume's row was last changed, by the clock of whoever changed it; a new migration does.
    pub updated_at: Option<SystemTime>,
    /// What the volume's record tells of its disk.
    pub record: Hardware,
    /// Another node may make the copy: the volume belongs to a cluster of services.
    pub clustered: bool,
    /// A library reaches the volume, not a device: a copy of it may have no file open.
    pub without_device: bool,
    /// The volume object says that the copy is made, and the migration not yet complete.
    pub completing: bool,
    /// The path the caller believes is copied from. A dd that reads it counts as this volume's,
    /// and is preferred when several dd read the volume.
    pub src_path: Option<PathBuf>,
    /// The path the caller believes is copied to; such a dd is preferred among several.
    pub dest_path: Option<PathBuf>,
    /// How the copy is expected to be made.
    pub mode: CopyMode,
    /// The command to ask when the storage makes the copy itself.
    pub driver: Option<DriverCall>,
}

impl Question {
    /// How far the migration of the volume is whose name, `size` bytes large, is `name`, in whatever way
    /// it is made.
    #[must_use]
    pub fn about(volume_id: &str, name: &str, size: u64) -> Self {
        Self {
            volume_id: volume_id.to_owned(),
            names: vec![name.to_owned()],
            ids: vec![volume_id.to_owned()],
            size,
            attached: false,
            migrating: true,
            host: None,
            updated_at: None,
            record: Hardware::default(),
            clustered: false,
            without_device: false,
            completing: false,
            src_path: None,
            dest_path: None,
            mode: CopyMode::Auto,
            driver: None,
        }
    }

    /// How volumes are named, with `%s` for the id, as far as the question tells.
    fn template(&self) -> String {
        let around = |name: &String| {
            let (before, after) = name.split_once(&self.volume_id)?;
            Some(format!("{before}%s{after}"))
        };
        let template = self.names.iter().find_map(around);
        template.unwrap_or_else(|| "volume-%s".to_owned())
    }

    /// Whether what was seen when the volume was at `host` belongs to an earlier migration.
    fn has_moved_from(&self, host: Option<&str>) -> bool {
        host.zip(self.host.as_deref())
            .is_some_and(|(then, now)| then != now)
    }
}

/// How a volume is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyMode {
    /// By dd if there is one, else through open files, else by the storage.
    Auto,
    /// By dd on this node.
    HostBased,
    /// By a process, mostly cinder-volume, through files it holds open.
    FileBased,
    /// By the storage itself; the answer is that of [`Question::driver`].
    DriverBased,
    /// In a way that cannot be seen: always [`Answer::Unknown`].
    Other,
}

/// What is known about a volume's copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Whole percents copied, 0 to 100.
    Percent(u8),
    /// Nothing can be known, and that is no error.
    Unknown,
}
