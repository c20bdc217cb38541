//! Decides how a request is answered, or refused as oslo.messaging's dispatcher would refuse it.

use super::failure::Failure;
use super::json::Json;
use super::request::{MethodArgs, Request};
use super::version::Version;
use super::volume::{Volume, VolumeError};
use super::{DETAILS_METHOD, METHOD};

/// The method of oslo.messaging's ping endpoint (`PingEndpoint` in `rpc/dispatcher.py`).
pub(super) const PING: &str = "oslo_rpc_server_ping";
/// What the ping endpoint returns.
pub const PONG: &str = "pong";
/// The version of the ping endpoint. Its target names none, and the dispatcher's default is 1.0.
const PING_VERSION: Version = Version::new(1, 0);

/// The longest path (`PATH_MAX` in `linux/limits.h`, without the final null byte).
const PATH_MAX: usize = 4095;

/// The interface that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Api {
    /// The version under which the progress call is served.
    pub version: Version,
    /// Whether pings are answered (`rpc_ping_enabled`).
    pub ping_enabled: bool,
}

/// How a request is answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Dispatch {
    /// Answer with the progress of the copy.
    Progress(Box<ProgressCall>),
    /// Answer [`PONG`].
    Ping,
    /// Answer with a failure.
    Refuse(Failure),
}

/// The arguments of the progress call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressCall {
    /// The volume that is being migrated.
    pub volume: Volume,
    /// The source of the copy, if the caller knows it.
    pub src_path: Option<String>,
    /// The destination of the copy, if the caller knows it.
    pub dest_path: Option<String>,
    /// How the copy is made, if the caller knows it. Any text is accepted here.
    pub migration_mode: Option<String>,
    /// Whether the caller asks for more than the percentage: whether the method is [`DETAILS_METHOD`].
    pub details: bool,
}

impl ProgressCall {
    /// Reads the arguments of the call.
    ///
    /// A Python endpoint raises `TypeError` for an unknown argument. Here an unknown argument is ignored, so that a
    /// newer caller that sends more arguments gets its answer: the volume is enough for that. For the same reason an
    /// optional argument counts as absent when it is empty, not text, or no possible path.
    pub fn from_args(args: &MethodArgs<'_>) -> Result<Self, VolumeError> {
        Ok(Self {
            volume: Volume::from_args(args)?,
            src_path: text(&args.src_path),
            dest_path: text(&args.dest_path),
            migration_mode: text(&args.migration_mode),
            details: false,
        })
    }
}

impl Api {
    /// Whether `request` is the progress call, in a version and a namespace served here. Beside a cinder-volume the
    /// daemon answers nothing else: cinder-volume answers or refuses every other request.
    pub fn serves(&self, request: &Request<'_>) -> bool {
        [METHOD, DETAILS_METHOD].contains(&request.method.as_ref())
            && reachable(request, self.version)
    }
}

/// Decides by the rule of oslo.messaging's `RPCDispatcher.dispatch`:
///
/// - The first endpoint gets the request whose namespace and version fit and which has the method.
/// - If namespace and version fit an endpoint but none has the method, the refusal is `NoSuchMethod`.
/// - Else the refusal is `UnsupportedVersion`, also for a namespace that no endpoint serves.
pub fn dispatch(request: &Request<'_>, api: &Api) -> Dispatch {
    let ping_reachable = api.ping_enabled && reachable(request, PING_VERSION);
    if api.serves(request) {
        match ProgressCall::from_args(&request.args) {
            Ok(call) => Dispatch::Progress(Box::new(ProgressCall {
                details: request.method == DETAILS_METHOD,
                ..call
            })),
            Err(error) => Dispatch::Refuse(Failure::invalid_volume(&error.to_string())),
        }
    } else if ping_reachable && request.method == PING {
        Dispatch::Ping
    } else if ping_reachable || reachable(request, api.version) {
        Dispatch::Refuse(Failure::no_such_method(&request.method))
    } else {
        Dispatch::Refuse(Failure::unsupported_version(
            &request.version,
            &request.method,
        ))
    }
}

/// Whether an endpoint of version `served` fits the request. All endpoints here serve only the null namespace, as
/// those of cinder-volume do.
fn reachable(request: &Request<'_>, served: Version) -> bool {
    request.namespace.is_none() && served.accepts(&request.version)
}

fn text(value: &Option<Json<'_>>) -> Option<String> {
    let text = value.as_ref()?.as_text()?;
    let usable = !text.is_empty() && text.len() <= PATH_MAX && !text.contains(char::is_control);
    usable.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rpc::tests::captured;

    const API: Api = Api {
        version: Version::new(3, 11),
        ping_enabled: false,
    };
    const WITH_PING: Api = Api {
        ping_enabled: true,
        ..API
    };

    fn decided(message: Value, api: &Api) -> Dispatch {
        captured::with_request(&message, |request| dispatch(&request.unwrap(), api))
    }

    fn is_served(message: &Value) -> bool {
        captured::with_request(message, |request| API.serves(&request.unwrap()))
    }

    fn refusal(message: Value, api: &Api) -> (&'static str, String) {
        match decided(message, api) {
            Dispatch::Refuse(failure) => (failure.class, failure.message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_call_is_served_up_to_our_version() {
        for (version, served) in [
            (json!("3.0"), true),
            (json!("3.11"), true),
            (json!("3.12"), false),
            (json!("4.0"), false),
            (json!("1.0"), false),
            (json!("a.b"), false),
            (json!(null), false),
        ] {
            let request = json!({
                "method": METHOD, "version": version, "args": {"volume": {"id": "v", "size": 1}},
            });
            assert_eq!(is_served(&request), served, "{version}");
            let progress = matches!(decided(request, &API), Dispatch::Progress(_));
            assert_eq!(progress, served, "{version}");
        }
    }

    #[test]
    fn details_are_asked_for_by_a_method_of_their_own() {
        for (method, details) in [(METHOD, false), (DETAILS_METHOD, true)] {
            let request = json!({
                "method": method, "version": "3.0", "args": {"volume": {"id": "v", "size": 1}},
            });
            assert!(is_served(&request));
            let Dispatch::Progress(call) = decided(request, &API) else {
                panic!("{method}");
            };
            assert_eq!(call.details, details);
        }
        let longer = json!({"method": "get_migrate_volume_progress_detailsx", "version": "3.0"});
        assert!(!is_served(&longer));
        assert_eq!(refusal(longer, &API).0, "NoSuchMethod");
    }

    #[test]
    fn a_call_without_a_version_is_1_0_and_not_served() {
        let message = json!({"method": METHOD, "args": {"volume": {"id": "v", "size": 1}}});
        assert_eq!(
            refusal(message.clone(), &API),
            (
                "UnsupportedVersion",
                format!("Endpoint does not support RPC version 1.0. Attempted method: {METHOD}")
            )
        );
        // The ping endpoint fits 1.0 but has no such method, so oslo.messaging's rule gives NoSuchMethod.
        assert_eq!(refusal(message, &WITH_PING).0, "NoSuchMethod");
    }

    #[test]
    fn a_null_version_is_refused_in_pythons_words() {
        assert_eq!(
            refusal(json!({"method": METHOD, "version": null}), &API).1,
            format!("Endpoint does not support RPC version None. Attempted method: {METHOD}")
        );
    }

    #[test]
    fn another_namespace_is_an_unsupported_version() {
        let message = json!({"method": METHOD, "version": "3.11", "namespace": "lab"});
        assert!(!is_served(&message));
        assert_eq!(refusal(message.clone(), &API).0, "UnsupportedVersion");
        assert_eq!(refusal(message, &WITH_PING).0, "UnsupportedVersion");
    }

    #[test]
    fn another_method_is_refused_by_name() {
        assert_eq!(
            refusal(json!({"method": "create_volume", "version": "3.0"}), &API),
            (
                "NoSuchMethod",
                "Endpoint does not support RPC method create_volume".to_owned()
            )
        );
        assert_eq!(
            refusal(json!({"method": "create_volume", "version": "4.0"}), &API).0,
            "UnsupportedVersion"
        );
    }

    #[test]
    fn pings_are_answered_where_enabled() {
        let ping = |version: &str| json!({"method": PING, "version": version});
        assert_eq!(decided(json!({"method": PING}), &WITH_PING), Dispatch::Ping);
        assert_eq!(decided(ping("1.0"), &WITH_PING), Dispatch::Ping);
        assert_eq!(refusal(ping("1.0"), &API).0, "UnsupportedVersion");
        assert_eq!(refusal(ping("1.1"), &WITH_PING).0, "UnsupportedVersion");
        // Version 3.0 fits the progress endpoint, which has no such method.
        assert_eq!(refusal(ping("3.0"), &WITH_PING).0, "NoSuchMethod");
        let elsewhere = json!({"method": PING, "namespace": "lab"});
        assert_eq!(refusal(elsewhere, &WITH_PING).0, "UnsupportedVersion");
    }

    #[test]
    fn a_bad_volume_becomes_cinders_exception() {
        assert_eq!(
            refusal(json!({"method": METHOD, "version": "3.11"}), &API),
            (
                "InvalidVolume",
                "Invalid volume: the call carries no volume".to_owned()
            )
        );
    }

    #[test]
    fn optional_arguments_are_honoured_and_others_ignored() {
        let call =
            |args: Value| ProgressCall::from_args(&captured::args(&args.to_string())).unwrap();
        let volume = json!({"id": "v", "size": 1});
        let told = call(json!({
            "volume": volume, "src_path": "/dev/sdb", "dest_path": "/dev/sda",
            "migration_mode": "FILE_BASED", "from_the_future": {"x": 1},
        }));
        assert_eq!(told.src_path.as_deref(), Some("/dev/sdb"));
        assert_eq!(told.dest_path.as_deref(), Some("/dev/sda"));
        assert_eq!(told.migration_mode.as_deref(), Some("FILE_BASED"));
        for odd in [
            json!(null),
            json!(""),
            json!(5),
            json!("/a\u{0}b"),
            json!("x".repeat(4096)),
        ] {
            let untold = call(json!({
                "volume": volume, "src_path": odd, "dest_path": odd, "migration_mode": odd,
            }));
            assert_eq!(untold, call(json!({"volume": volume})));
            assert_eq!(untold.src_path, None);
        }
    }
}
