//! Proves the bench that all the others stand on: the broker, and the peers of every release.

mod own_broker;
mod peers_talk;
