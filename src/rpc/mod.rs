//! The wire of oslo.messaging RPC, as pure functions on bytes and values.
//!
//! A message is decoded layer by layer, one file per layer: [`compression`] → [`envelope`] →
//! [`request`] → [`dispatcher`] (which checks the [`version`] and reads the [`volume`]). The
//! answer is encoded in the other direction: [`failure`] if it is one, then [`reply`], then
//! [`envelope`]. Only [`duplicates`] keeps state.
//!
//! The peers are Python programs from ten years of releases. None of them can be changed, and the protocol has no
//! specification besides their sources. So each rule stands where it is applied, with its source, and the tests compare
//! it with messages captured from those peers. [`call`] is the caller's side: it sends what cinder-api sends. A message
//! on which Python would fail is an error here, which names what is wrong. A message that Python accepts is accepted.
//!
//! A message may be secret, huge or hostile. Hence three rules:
//!
//! - Sizes and depths are bounded.
//! - No input causes a panic.
//! - No error and no `Debug` shows more of a body than names, ids, versions and sizes.
//!
//! [`call`]: crate::rpc::call
//! [`compression`]: crate::rpc::compression
//! [`envelope`]: crate::rpc::envelope
//! [`request`]: crate::rpc::request
//! [`dispatcher`]: crate::rpc::dispatcher
//! [`version`]: crate::rpc::version
//! [`volume`]: crate::rpc::volume
//! [`failure`]: crate::rpc::failure
//! [`reply`]: crate::rpc::reply
//! [`duplicates`]: crate::rpc::duplicates

/// The caller's side.
pub mod call;
/// Bodies that kombu compressed.
pub mod compression;
/// How a request is answered or refused.
pub mod dispatcher;
/// The filter against answering one call twice.
pub mod duplicates;
/// Body bytes to the text of a JSON object and back.
pub mod envelope;
/// Exceptions for the caller.
pub mod failure;
/// Replies and heartbeats.
pub mod reply;
/// The method and arguments of a message, and the reply queue.
pub mod request;
/// Which versions are served.
pub mod version;
/// The volume of a call.
pub mod volume;

/// JSON of which only some values are needed.
mod json;

/// The method that cinder-api calls to ask how far a migration is.
pub const METHOD: &str = "get_migrate_volume_progress";

/// The method that returns more than the percentage. Its name starts with [`METHOD`], so that
/// [`may_be_progress_call`] finds both.
pub const DETAILS_METHOD: &str = "get_migrate_volume_progress_details";

/// Whether an uncompressed body may be a progress call: whether the name of the method occurs in the body.
///
/// Most bodies are other messages, and this test saves parsing them. The name consists of letters and underscores.
/// No JSON encoder escapes these, not even in JSON inside JSON. A compressed body must be decompressed first.
pub fn may_be_progress_call(body: &[u8]) -> bool {
    memchr::memmem::find(body, METHOD.as_bytes()).is_some()
}

/// The methods by which cinder-api asks for the migration of a volume.
const MIGRATING: [&str; 2] = ["migrate_volume", "retype"];

/// Whether an uncompressed body may be a request for a migration: whether the name of such a method occurs in the body.
pub fn may_be_migration_request(body: &[u8]) -> bool {
    MIGRATING
        .iter()
        .any(|method| memchr::memmem::find(body, method.as_bytes()).is_some())
}

/// The volume that `request` asks to migrate. `None` for any other request, and for a retype that may not migrate.
#[must_use]
pub fn migrating(request: &request::Request<'_>) -> Option<volume::Volume> {
    let policy = request.args.migration_policy.as_ref();
    let never = policy.and_then(json::Json::as_text) == Some("never");
    if !MIGRATING.contains(&request.method.as_ref()) || request.namespace.is_some() || never {
        return None;
    }
    volume::Volume::from_args(&request.args).ok()
}

#[cfg(test)]
mod tests;
