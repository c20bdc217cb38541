//! Which volume a path means, whoever says it: a command line, an open file or a caller.
//!
//! In this order: `identity::trace` reads sysfs ([`sysfs`]) and collects all links to the disk ([`links`]); [`names`]
//! finds a volume's id or name in these; [`hardware`] reads world-wide number, target and unit, which a volume's
//! record may hold.

/// World-wide numbers and logical units, of disks and in the records of volumes.
mod hardware;
/// What is known of a path: its names, its device, its size.
mod identity;
/// Links below `/dev`.
mod links;
/// Volume ids in the names of disks: pure rules.
mod names;
/// What sysfs tells of a disk.
mod sysfs;

#[cfg(test)]
mod tests;

pub use hardware::Hardware;
pub(super) use identity::Identity;
pub(super) use links::major_minor;
pub(super) use names::mentions;
