//! Tests that need a real broker and real oslo.messaging peers. `scripts/test` provides both.
//!
//! One module per behaviour; what they share stands in [`support`].

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod own_broker;
mod peers_talk;
mod support;
