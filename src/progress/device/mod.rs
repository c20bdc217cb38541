//! Which volume a path means, whoever says it: a command line, an open file or a caller.

/// World-wide numbers and logical units, of disks and in the records of volumes.
mod hardware;
/// What is known of a path: its names, its device, its size.
mod identity;
/// Volume ids in the names of disks: pure rules.
mod names;
/// What sysfs tells of a disk.
mod sysfs;

pub use hardware::Hardware;
pub(super) use identity::{Identity, major_minor};
