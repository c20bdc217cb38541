//! What the tests against a broker share: the broker, the peers, the daemon, and waiting with a deadline.

#![allow(dead_code, reason = "a tool box: not each tool is in use at all times")]

/// A broker: the shared one, or one of a test's own that it may break.
pub mod broker;
/// A caller such as cinder-api.
pub mod caller;
/// A stand-in for cinder-volume.
pub mod cinder_volume;
/// The program under test.
pub mod daemon;
/// What `scripts/test` hands over by environment variables.
pub mod environment;
/// A child process: started, signalled, killed on drop.
pub mod process;
/// Names on the broker, and names that no other test has.
pub mod service;
/// Lines that a process writes, and waiting for them.
pub mod transcript;
/// Waiting for a condition.
pub mod wait;
