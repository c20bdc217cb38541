//! The rules of oslo.config: where files are, their syntax, `$name` in values, and values as types.

/// Mistakes in the settings.
pub(super) mod error;
/// The file syntax.
pub(super) mod file;
/// First stage: the assignments of each source.
pub(super) mod fragments;
/// Where a value was written.
pub(super) mod origin;
/// Which files are read when the command line names none.
mod search;
/// Where settings come from.
pub(super) mod sources;
/// `$name` inside a value.
pub(super) mod substitution;
/// Values as types.
pub(super) mod values;
