//! The wire of oslo.messaging RPC, as pure functions on bytes and values.

/// Bodies that kombu compressed.
pub mod compression;
/// Body bytes to a JSON object and back.
pub mod envelope;
/// Which versions are served.
pub mod version;

/// What sort of JSON a value is, in words.
mod kind;
