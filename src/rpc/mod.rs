//! The wire of oslo.messaging RPC, as pure functions on bytes and values.
//!
//! A message is read from the outside in, one file per layer: [`compression`] → [`envelope`] →
//! [`request`] → [`dispatcher`] (which looks at the [`version`] and reads the [`volume`]). The
//! answer is made from the inside out: [`failure`] if it is one, then [`reply`], then
//! [`envelope`] again. [`duplicates`] is the one piece with a memory.
//!
//! The peers are Python programs of some ten years, none of which can be changed, and there is no
//! specification: the protocol is what their sources do. So each rule stands where it is applied,
//! with its source, and the tests compare it with messages captured from those peers. [`call`] is
//! the other side: it asks as cinder-api does. Where Python would fail on a message, the error here
//! says what is wrong with it; where Python is lenient, so is this.
//!
//! What arrives may be secret, huge or hostile. Hence three rules: sizes and depths are bounded,
//! nothing panics on any input, and no error or `Debug` shows what a body contained beyond names,
//! ids, versions and sizes.
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
/// From a request to what to do with it.
pub mod dispatcher;
/// The filter against answering one call twice.
pub mod duplicates;
/// Body bytes to the text of a JSON object and back.
pub mod envelope;
/// Exceptions for the caller.
pub mod failure;
/// Replies and heartbeats.
pub mod reply;
/// What a message asks for and where the answer goes.
pub mod request;
/// Which versions are served.
pub mod version;
/// The volume of a call.
pub mod volume;

/// JSON of which little is needed.
mod json;

/// The method that cinder-api calls to ask how far a migration is.
pub const METHOD: &str = "get_migrate_volume_progress";

/// The method that tells more than the percentage. Its name begins with that of the other one, so that
/// [`may_be_progress_call`] finds both.
pub const DETAILS_METHOD: &str = "get_migrate_volume_progress_details";

/// Whether an uncompressed body may be a progress call: whether the method's name occurs in it.
///
/// For bodies of which most are something else and need not be parsed. The name consists of
/// letters and underscores, which no JSON encoder escapes, not even twice. A compressed body hides
/// it; decode that one.
pub fn may_be_progress_call(body: &[u8]) -> bool {
    memchr::memmem::find(body, METHOD.as_bytes()).is_some()
}

/// What cinder-api sends when a volume is to be copied to another place.
const MIGRATING: [&str; 2] = ["migrate_volume", "retype"];

/// Whether an uncompressed body may be a request for a migration, by the same means.
pub fn may_be_migration_request(body: &[u8]) -> bool {
    MIGRATING
        .iter()
        .any(|method| memchr::memmem::find(body, method.as_bytes()).is_some())
}

/// The volume that a request asks to migrate, if it is one. A retype that may not migrate is none.
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
