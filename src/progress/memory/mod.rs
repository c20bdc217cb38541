//! The copies and volumes seen so far, whichever way copies are made, and how they are found by volume.

/// The remembered copies.
pub(super) mod copy_store;
/// Fields that are not saved.
pub(super) mod unsaved;
/// Finds a volume's copies without going through all.
mod volume_index;
/// Volumes that calls and requests named.
pub(super) mod volumes;

/// The index finds what a search through everything would.
#[cfg(test)]
mod tests;
