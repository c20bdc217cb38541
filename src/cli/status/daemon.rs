//! Whether the daemon of this node serves, stands aside, or does not run.

use std::io;
use std::path::Path;

use serde::Serialize;

use crate::daemon::status_file::{self, DaemonState};
use crate::text;

/// The state of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct DaemonRow {
    /// Whether the daemon runs. Null if that is unknown.
    running: Option<bool>,
    /// The daemon's state line, or why it is unknown.
    says: Option<String>,
}

impl DaemonRow {
    /// Reads the status file beside this state file.
    pub(super) fn of(state_file: Option<&Path>) -> Self {
        match state_file {
            Some(state_file) => Self::told(state_file, status_file::read(state_file)),
            None => Self::unknown("[progress] state_file is empty".to_owned()),
        }
    }

    fn told(state_file: &Path, standing: io::Result<DaemonState>) -> Self {
        match standing {
            Ok(DaemonState::Runs(line)) => Self {
                running: Some(true),
                says: Some(text::harmless(&line)),
            },
            Ok(DaemonState::Missing) => Self {
                running: Some(false),
                says: None,
            },
            Err(error) => {
                let path = status_file::path_of(state_file);
                Self::unknown(format!("{}: {error}", path.display()))
            }
        }
    }

    fn unknown(why: String) -> Self {
        Self {
            running: None,
            says: Some(why),
        }
    }

    /// The state as a line for people.
    pub(super) fn line(&self) -> String {
        let says = self.says.as_deref().unwrap_or("unknown");
        match self.running {
            Some(true) => format!("daemon: {says}"),
            Some(false) => "daemon: not running on this node".to_owned(),
            None => format!("daemon: unknown ({says})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_how_it_stands() {
        let state = Path::new("/run/x/state.json");
        let line = |standing| DaemonRow::told(state, standing).line();
        let serving = "serving 1 backend by way of broker:5672";
        assert_eq!(
            line(Ok(DaemonState::Runs(serving.to_owned()))),
            format!("daemon: {serving}")
        );
        assert_eq!(
            line(Ok(DaemonState::Missing)),
            "daemon: not running on this node"
        );
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(
            line(Err(denied)),
            "daemon: unknown (/run/x/state.json.status: permission denied)"
        );
        assert_eq!(
            DaemonRow::of(None).line(),
            "daemon: unknown ([progress] state_file is empty)"
        );
    }
}
