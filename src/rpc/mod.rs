//! The wire of oslo.messaging RPC, as pure functions on bytes and values.

/// Bodies that kombu compressed.
pub mod compression;
/// Body bytes to a JSON object and back.
pub mod envelope;
/// Exceptions for the caller.
pub mod failure;
/// What a message asks for and where the answer goes.
pub mod request;
/// Which versions are served.
pub mod version;
/// The volume of a call.
pub mod volume;

/// What sort of JSON a value is, in words.
mod kind;
