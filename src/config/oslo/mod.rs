//! How oslo.config reads: its file syntax, where files are, `$name`, and texts into types.

/// What can be wrong with the settings.
pub(super) mod error;
/// The file syntax.
pub(super) mod file;
/// First stage: what each source said.
pub(super) mod fragments;
/// Where a value was written.
pub(super) mod origin;
/// Where settings come from.
pub(super) mod sources;
/// `$name` inside a value.
pub(super) mod substitution;
/// Texts into types.
pub(super) mod values;
