//! Tests that need a real broker and real oslo.messaging peers. `scripts/test` provides both.
//!
//! One module per behaviour; what they share stands in [`support`].

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

/// The bench that all the others stand on.
mod bench;
/// What callers are told.
mod calls;
/// Alone or beside a cinder-volume, and to whom it connects.
mod deployment;
/// Whatever fails, no operation is lost or doubled.
mod faults;
/// What is not ours reaches cinder-volume.
mod hand_over;
/// What an operator sees and does.
mod operator;
