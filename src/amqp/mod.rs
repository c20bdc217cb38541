//! The broker room: connections, queues, the hand-over and the replies.
//!
//! **Goal.** Everything that is said to RabbitMQ is said here, and nothing here knows what a
//! message means: bodies are bytes, and a function that comes in from outside decides which
//! messages are *ours*.
//!
//! **Where trouble comes from.** A broker ends things in many ways: it closes the connection,
//! closes one channel, cancels one consumer, or falls silent. lapin can recover some of these by
//! itself, but then a closed channel leaves a consumer that waits for ever on a connection that
//! looks healthy. And a message that was taken from cinder-volume's queue must never be lost.
//!
//! **The rule.** lapin's recovery stays off. [`supervisor`] owns the one loop: connect, serve
//! until *anything* ends, drop everything, next host, wait a jittered while. Inside it
//! [`handover`] works in AMQP transactions, so that a message is on cinder-volume's topic queue
//! or still on its server queue, at every instant; and [`replies`] sends the replies on a
//! connection of its own, because a broker that is short of memory stops reading from whoever
//! publishes.
//!
//! [`supervisor`]: crate::amqp::connection::supervisor
//! [`handover`]: crate::amqp::handover
//! [`replies`]: crate::amqp::replies

/// The caller's side.
pub mod caller;
/// When a second daemon for the same queues waits: decided on each new connection.
pub mod claim;
/// Connections to one broker host after another.
pub mod connection;
/// Sidecar: keep what is ours, hand the rest over to cinder-volume.
pub mod handover;
/// Which queues the broker has, by passive look-ups.
pub mod inspect;
/// A message as it came, and what becomes of it.
pub mod message;
/// Counters of what happened on the broker's side.
pub mod metrics;
/// Whether another daemon serves where we would.
pub mod neighbour;
/// The daemon's own topic.
pub mod own_topic;
/// Replies: confirmed, and patient with reply queues that are not there yet.
pub mod replies;
/// Standalone: consume a topic as its only RPC server.
pub mod standalone;
/// Exchanges and queues as oslo.messaging would declare them, and passive look-ups.
pub mod topology;
