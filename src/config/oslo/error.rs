//! Mistakes in the settings: each error names the place, the option and what would be right.
//!
//! No error quotes a secret. None quotes a whole line or a piece of a `transport_url`, because a line that does not
//! parse may contain a part of a password.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::config::Origin;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or folder cannot be read, although the command line names it or it exists.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// A line that is neither an assignment, nor a section, nor a comment.
    #[error("{}:{line}: expected {expected}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What would be right in this line.
        expected: &'static str,
    },
    /// A value that does not fit its option.
    #[error("{place}{}: expected {expected}", shown(value.as_deref()))]
    Invalid {
        /// Which option, and where it was written.
        place: Box<Location>,
        /// The value as written, before any `$name` was filled in; `None` when it must not be shown.
        value: Option<String>,
        /// What would be right.
        expected: String,
    },
    /// An unknown option in a section of the daemon's own.
    #[error("{place}: there is no such option{}", suggested(suggestion.as_deref()))]
    UnknownOption {
        /// Which option, and where it was written.
        place: Box<Location>,
        /// The known option with the most similar name, if one is similar enough.
        suggestion: Option<String>,
    },
    /// A section `[progress:<backend>]` for a backend that `enabled_backends` does not name.
    #[error(
        "{place}: enabled_backends names no such backend{}",
        suggested(suggestion.as_deref())
    )]
    UnknownBackend {
        /// The section's first option, and where it was written.
        place: Box<Location>,
        /// The backend with the most similar name, if one is similar enough.
        suggestion: Option<String>,
    },
}

/// One option at the place where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// File and line, or the other source that set the option.
    pub origin: Origin,
    /// Section, in lower case unless it is `DEFAULT`.
    pub group: String,
    /// Option, as written.
    pub option: String,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: [{}] {}", self.origin, self.group, self.option)
    }
}

fn shown(value: Option<&str>) -> String {
    value.map_or_else(String::new, |value| format!(" = {value:?}"))
}

fn suggested(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!(", did you mean {name}?"))
}

/// The name among `known` that the user probably meant by `written`: at most a third of its letters differ.
pub(in crate::config) fn nearest<'a>(
    written: &str,
    known: impl Iterator<Item = &'a str>,
) -> Option<String> {
    known
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .filter(|(distance, name)| *distance <= name.len().max(3) / 3)
        .min()
        .map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn suggests_only_what_is_near() {
        let known = ["prefetch", "scan_interval", "mode"];
        let near = |written| nearest(written, known.into_iter());
        assert_eq!(near("prefecth").as_deref(), Some("prefetch"));
        assert_eq!(near("scan_intervall").as_deref(), Some("scan_interval"));
        assert_eq!(near("colour"), None);
    }
}
