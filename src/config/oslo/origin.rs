//! Where a value was written. Errors and `check` show it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where one value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the built-in default.
    Default,
    /// A line of a configuration file.
    File {
        /// The file as it was opened.
        path: Arc<Path>,
        /// The line the assignment starts on, counted from 1.
        line: usize,
    },
    /// The environment variable of this name.
    Environment(String),
    /// The command line.
    CommandLine,
    /// The query string of `transport_url`. oslo.messaging prefers it to every other source.
    TransportUrl,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("built-in default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::CommandLine => f.write_str("command line"),
            Self::TransportUrl => f.write_str("query string of transport_url"),
        }
    }
}
