//! What survives a restart of the daemon: its format, its file, and when it is written.

/// The file it is written to and read from.
pub(super) mod file;
/// What of the memory is kept, as it is written down.
pub(super) mod format;
/// Writes it, now and then, off the async tasks.
pub(super) mod writer;
