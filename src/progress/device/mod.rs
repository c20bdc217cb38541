//! Which volume a path means, whoever says it: a command line, an open file or a caller.

/// What is known of a path: its names, its device, its size.
mod identity;

pub(super) use identity::{Identity, major_minor};
