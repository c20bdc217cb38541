//! What the broker has, for whoever only wants to know: nothing is declared, consumed or changed.

/// As what a queue was declared.
pub mod queue_type;
/// What there is under a service's names, without touching it.
pub mod queues;
/// What the user of `transport_url` may do.
pub mod rights;
