//! Failures, in the form from which a caller's oslo.messaging rebuilds a Python exception.

use serde_json::{Map, Value, json};

/// Python's built-in exceptions. Callers take `builtins` and Python 2's `exceptions` for
/// their own of the two (oslo.messaging 5.17 to 18.3), so one name serves both.
const BUILTINS: &str = "builtins";
/// Cinder's exceptions, which cinder-api allows to be rebuilt (`cinder/rpc.py`).
const CINDER: &str = "cinder.exception";
/// The dispatcher's own exceptions. cinder-api does not allow them, so they arrive there as
/// `RemoteError` with the class's name in it, as they do from cinder-volume itself.
pub(super) const DISPATCHER: &str = "oslo_messaging.rpc.dispatcher";

/// Stands in the place of Python's traceback. Callers append it to the exception's text, and
/// cinder-api shows that text to its user, so it is one line that is true and harmless.
const TRACEBACK: &str = concat!("answered by cinder-progress ", env!("CARGO_PKG_VERSION"));
/// The traceback's first words in every release, by which the answering program is known.
pub(super) const SIGNATURE: &str = "answered by cinder-progress";

/// An exception that the caller shall see.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The exception's class.
    pub class: &'static str,
    /// The Python module of the class.
    pub module: &'static str,
    /// The exception's text, and its one positional argument.
    pub message: String,
    /// The keyword arguments with which the caller makes the exception.
    pub kwargs: Map<String, Value>,
}

impl Failure {
    /// The call's volume is invalid; HTTP 400 with `reason` in cinder-api.
    ///
    /// Callers make the exception as `InvalidVolume(message, reason=…, code=400)`. The text is
    /// given whole because cinder formats its template only when it is not; a `message` among
    /// the keyword arguments, as Ocata's own servers send it, would collide with it (a
    /// `TypeError`, and a `RemoteError` for the user).
    pub fn invalid_volume(reason: &str) -> Self {
        let mut kwargs = Map::new();
        kwargs.insert("reason".to_owned(), json!(reason));
        kwargs.insert("code".to_owned(), json!(400));
        Self {
            class: "InvalidVolume",
            module: CINDER,
            message: format!("Invalid volume: {reason}"),
            kwargs,
        }
    }

    /// No endpoint serves this version, in the dispatcher's words.
    pub fn unsupported_version(version: &str, method: &str) -> Self {
        Self::plain(
            "UnsupportedVersion",
            DISPATCHER,
            format!("Endpoint does not support RPC version {version}. Attempted method: {method}"),
        )
    }

    /// The version is served but the method is not, in the dispatcher's words.
    pub fn no_such_method(method: &str) -> Self {
        Self::plain(
            "NoSuchMethod",
            DISPATCHER,
            format!("Endpoint does not support RPC method {method}"),
        )
    }

    /// The request is malformed. Python's dispatcher fails on such a request with a built-in
    /// exception, mostly this one.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::plain("TypeError", BUILTINS, message.into())
    }

    /// The request is good but the answer cannot be given, for instance because /proc may
    /// not be read.
    ///
    /// A built-in class, because every caller of every release rebuilds it, has it, and makes
    /// it from one text. cinder-api answers HTTP 500 and keeps the text for its log, which is
    /// right: it is the operator who has to read it, not the user.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::plain("RuntimeError", BUILTINS, message.into())
    }

    /// The JSON text that goes into a reply's `failure`; the keys are those of
    /// `serialize_remote_exception` in `oslo_messaging/_drivers/common.py`.
    pub fn to_json(&self) -> String {
        json!({
            "class": self.class,
            "module": self.module,
            "message": self.message,
            "tb": [TRACEBACK],
            "args": [self.message],
            "kwargs": self.kwargs,
        })
        .to_string()
    }

    fn plain(class: &'static str, module: &'static str, message: String) -> Self {
        Self {
            class,
            module,
            message,
            kwargs: Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::tests::captured;

    /// The failure in a captured reply, and ours, both without the traceback.
    fn without_traceback(json: &str) -> Value {
        let mut failure: Value = serde_json::from_str(json).unwrap();
        let traceback = failure.as_object_mut().unwrap().remove("tb").unwrap();
        assert!(traceback.as_array().unwrap().iter().all(Value::is_string));
        failure
    }

    fn same_as_captured(prefix: &str, ours: impl Fn(&str) -> Failure) {
        for message in captured::all(prefix) {
            let theirs = message.decode()["failure"].as_str().unwrap().to_owned();
            assert_eq!(
                without_traceback(&ours(&message.release).to_json()),
                without_traceback(&theirs),
                "{prefix}.{}",
                message.release
            );
        }
    }

    #[test]
    fn refusals_are_those_of_real_servers() {
        same_as_captured("reply-no-such-method", |_| {
            Failure::no_such_method("no_such_method")
        });
        same_as_captured("reply-unsupported-version", |_| {
            Failure::unsupported_version("9.0", "get_migrate_volume_progress")
        });
        same_as_captured("reply-progress-unknown", |release| match release {
            "latest" => Failure::no_such_method("get_migrate_volume_progress"),
            _ => Failure::unsupported_version("3.11", "get_migrate_volume_progress"),
        });
    }

    #[test]
    fn an_invalid_volume_travels_as_cinder_29_sends_its_exceptions() {
        let ours = without_traceback(&Failure::invalid_volume("no size").to_json());
        assert_eq!(
            ours,
            json!({
                "class": "InvalidVolume",
                "module": "cinder.exception",
                "message": "Invalid volume: no size",
                "args": ["Invalid volume: no size"],
                "kwargs": {"reason": "no size", "code": 400},
            })
        );
        let captured = captured::all("reply-exception-cinder");
        for message in captured {
            let theirs = without_traceback(message.decode()["failure"].as_str().unwrap());
            assert_eq!(theirs["module"], ours["module"]);
            assert_eq!(theirs["args"], json!([theirs["message"]]));
            assert_eq!(theirs["kwargs"]["code"], 404);
            // Ocata's own form is one that its callers cannot rebuild.
            let collides = theirs["kwargs"]
                .as_object()
                .unwrap()
                .contains_key("message");
            assert_eq!(collides, message.release == "ocata");
        }
    }

    #[test]
    fn built_in_exceptions_have_the_form_of_real_ones() {
        for message in captured::all("reply-exception") {
            let theirs = message.decode()["failure"].as_str().unwrap().to_owned();
            let theirs = without_traceback(&theirs);
            if theirs["class"] != "ValueError" {
                continue;
            }
            for failure in [
                Failure::internal("lab failure"),
                Failure::malformed("lab failure"),
            ] {
                let ours = without_traceback(&failure.to_json());
                for key in ["message", "args", "kwargs"] {
                    assert_eq!(ours[key], theirs[key]);
                }
                assert_eq!(ours["module"], "builtins");
            }
        }
    }

    #[test]
    fn the_traceback_is_one_true_line() {
        let failure: Value = serde_json::from_str(&Failure::internal("x").to_json()).unwrap();
        assert_eq!(
            failure["tb"],
            json!([format!(
                "answered by cinder-progress {}",
                env!("CARGO_PKG_VERSION")
            )])
        );
    }
}
