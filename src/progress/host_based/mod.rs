//! Copies that dd makes: found among the node's processes, followed by their position, remembered after their end.

/// Which of the remembered dd is a volume's copy, and what that means for the answer.
mod decide;
/// Copies and wipes seen so far, running or gone.
pub(super) mod history;
/// What dd was told to do, from its command line.
pub(super) mod operands;
/// One look at a dd that is known.
pub(super) mod position;
/// One dd, as it is remembered.
pub(super) mod record;
/// The processes of the node, looked at incrementally.
pub(super) mod scan;

pub(super) use decide::{decide, note, running};
