//! Answers `get_migrate_volume_progress` beside an unmodified cinder-volume.
//!
//! cinder-volume migrates a volume by running `dd`, for hours, and tells nobody how far it is.
//! This daemon consumes the queue on which cinder-api addresses the node's cinder-volume, ahead of
//! it, answers that one call from the position of the running dd, and sees to it that every other
//! message reaches cinder-volume as if the daemon were not there.
//!
//! # The way of a message
//!
//! ```text
//!  RabbitMQ ─▶ amqp::handover ─▶ worker ─▶ rpc (envelope ▸ request ▸ dispatcher)
//!     ▲   ▲        │ not ours      │ ours
//!     │   └────────┘ T, in one     ▼
//!     │     transaction         progress (tracker ▸ scan ▸ fdinfo)
//!     │                            │
//!     └── amqp::replies ◀── rpc::reply
//! ```
//!
//! # The rooms
//!
//! Dependencies point down. [`amqp`] knows lapin and no RPC; [`rpc`] is pure functions on bytes
//! and values; [`progress`] knows processes and devices and neither of the two; [`config`] knows
//! files. [`worker`] is the one place where the first three meet, by the rules of its
//! [`policy`](worker::policy), which [`daemon::reload`] may change. [`metrics`],
//! [`daemon::systemd`] and [`daemon::status_file`] only watch. [`daemon`] builds them all from the
//! settings, and [`cli`] is what `main` hands over to. At the bottom lie [`ticker`], [`counters`] and
//! [`liveness`], which know none of the others.

/// Connections, queues, the hand-over and the replies.
pub mod amqp;
/// The command line, one file per verb.
pub mod cli;
/// oslo.config files, transport_url and the typed settings made from them.
pub mod config;
/// Numbers that only grow.
pub mod counters;
/// Settings in, connections and workers out, and an orderly end.
pub mod daemon;
/// An error with its causes in one line.
mod error_chain;
/// Signs of life: what each task is doing, and that none is stuck.
pub mod liveness;
/// What is seen from outside: metrics and health, over HTTP.
pub mod metrics;
/// Damaged input for the readers of what comes from outside.
#[cfg(test)]
mod mutation;
/// How far a copy is: processes, devices and the memory of what was seen.
pub mod progress;
/// The wire of oslo.messaging RPC: pure functions on bytes and values.
pub mod rpc;
/// Texts that are the same for people and programs.
mod text;
/// Wake-ups of idle tasks that fall together.
pub mod ticker;
/// Delivery → request → answer → reply.
pub mod worker;
