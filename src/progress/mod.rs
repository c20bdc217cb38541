//! The room that looks at processes.
