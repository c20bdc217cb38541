//! `/proc`, and nothing else: small reads about processes, none of which may hold up an async task.

/// Blocking reads on other threads, under a time limit.
pub(super) mod bounded;
/// What can go wrong, in words for the caller and words for the log.
pub(super) mod error;
/// How processes ended, in the kernel's own words.
pub(super) mod exits;
/// Descriptor positions, and which descriptor writes the destination.
pub(super) mod fdinfo;
/// Processes born since the last look, without listing all the others.
pub(super) mod new_pids;
/// Small reads about one process.
pub(super) mod process;
