//! What is remembered of copies and volumes, whichever way copies are made, and how it is found again.

/// What is remembered of copies.
pub(super) mod copy_store;
/// What is left out of what is written down.
pub(super) mod unsaved;
/// Finds what is remembered of a volume, however much is remembered.
mod volume_index;
/// Volumes that calls and operations told of.
pub(super) mod volumes;

/// What is found by index is what would be found among all.
#[cfg(test)]
mod tests;
