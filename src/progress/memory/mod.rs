//! The daemon's memory of copies and volumes, for copies by dd and through open files.

/// The remembered copies.
pub(super) mod copy_store;
/// Fields that the state file does not have.
pub(super) mod unsaved;
/// Finds the copies of a volume without comparing all.
mod volume_index;
/// The volumes that calls and requests for migrations named.
pub(super) mod volumes;

/// The index finds what a comparison with all copies finds.
#[cfg(test)]
mod tests;
