//! The rules of this room, proved on made-up nodes.

/// Disks that other storage shows.
mod disks;
/// How a real dd ended.
mod ends;
/// Made-up `/proc`, `/sys` and `/dev` trees.
pub(super) mod fake_host;
/// Copies through open files, answered from made-up processes.
mod file_based;
/// What is found by index is what would be found among all.
mod found_by_index;
/// Every row of the table of answers, proved on made-up processes.
mod host_based;
/// When 0 may be said, in both ways of copying.
mod never_zero;
/// What these tests ask, and of whom.
pub(super) mod questions;
/// The example for Ceph.
mod rbd_example;
/// Two migrations of a real node, replayed step by step.
mod recorded_migrations;
/// Copies of disks that nothing names, known by what was asked for.
mod requests;
/// Restarts of the daemon before, during and after a copy.
mod restarts;
/// Copies through open files, noticed though nobody asks.
mod sweeps;
