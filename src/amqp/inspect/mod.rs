//! What the broker has, for whoever only wants to know: nothing is declared, consumed or changed.

/// How a queue was declared.
pub mod queue_type;
/// What the broker has under a service's names, by passive look-ups.
pub mod queues;
/// What the user of `transport_url` may do.
pub mod rights;
