//! The rules of this room, tested on made-up nodes.

/// Copies of disks of other storage.
mod disks;
/// How a real dd ended.
mod ends;
/// Made-up `/proc`, `/sys` and `/dev` trees.
pub(super) mod fake_host;
/// Copies through open files, answered from made-up processes.
mod file_based;
/// Every row of the table of answers, tested with made-up processes.
mod host_based;
/// When the answer may be 0, by dd and through open files.
mod never_zero;
/// The questions of these tests, and helpers.
pub(super) mod questions;
/// Two migrations of a real node, replayed step by step.
mod recorded_migrations;
/// Copies of unnamed disks, identified by requests for migrations and by records.
mod requests;
/// Restarts of the daemon before, during and after a copy.
mod restarts;
/// Copies through open files, found by the sweep without a call.
mod sweeps;
