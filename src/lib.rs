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
//! files. [`worker`] is where a message becomes an answer, so it knows the first three, by the rules of its
//! [`policy`](worker::policy), which [`daemon::reload`] may change. [`metrics`],
//! [`daemon::systemd`] and [`daemon::status_file`] only watch. [`daemon`] builds them all from the
//! settings; its [`sessions`](daemon::sessions) say what is done on each connection. [`cli`] is what `main` hands
//! over to; its verbs also use the other rooms directly. At the bottom lie [`ticker`], [`counters`],
//! [`liveness`], `text` and `error_chain`, which know none of the others.
//!
//! # Where is …?
//!
//! - *Is a message ours, or left to cinder-volume?* `Worker::take_if_ours` in [`worker`]. When every message is left to
//!   cinder-volume: `ready::look` and `HandOver::enter` in [`amqp::handover`] decide, `stand_aside` has the reasons.
//! - *What if T, cinder-volume's topic queue, is full?* In [`amqp::handover`]: `ready` looks before each commit,
//!   `commit` learns of a refusal, `returned` puts the messages back.
//! - *A message came back twice?* In [`amqp::handover`]: `redeliveries` counts, `transaction::batch_end` hands it over
//!   alone, `Redeliveries::end` leaves Q to cinder-volume if it comes back once more.
//! - *When does a second daemon wait?* For one on the same queue: [`amqp::claim`]. For one on the same node: `lock` in
//!   [`daemon`].
//! - *Why this percentage?* The table at the head of `verdict` in [`progress`]. Which dd counts, and why a wipe means
//!   100: `host_based::decide`. Which open files: `file_based::history`.
//! - *Whose dd counts?* Those of the users in [`progress::Users`].
//! - *Which volume is `/dev/sdb`?* `device` in [`progress`]: `identity`, `links`, `names`, `hardware`.
//! - *Which two open files are one copy?* `file_based::pairs` in [`progress`].
//! - *A read under `/proc` hangs?* In [`progress`]: `proc::bounded` has the limits, `Tracker::auto` what it does to an
//!   answer.
//! - *What survives a restart?* `state` in [`progress`]: `format` says what, `writer` when.
//! - *In which order does the daemon stop?* [`daemon::run`].

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
/// An error with its causes, in one line.
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
