//! What can go wrong when looking at processes: `Display` is for the caller, [`ProgressError::detail`] for the log.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};
use thiserror::Error;

/// Since Linux 5.14 reading `fdinfo` takes ptrace access alone: the mode bits
/// of its folder no longer stand in the way. Before, a reader of another user had to get past them too.
pub(super) const FDINFO_NEEDS: &str =
    "CAP_SYS_PTRACE (on kernels before 5.14 also CAP_DAC_READ_SEARCH)";

/// The links in `fd` tell what is open; following them takes more than reading `fdinfo`.
pub(in crate::progress) const FD_NEEDS: &str = "one of CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH";

/// `comm`, `stat` and `cmdline` are open to everyone unless /proc is mounted with `hidepid`.
pub(in crate::progress) const PROC_NEEDS: &str =
    "CAP_SYS_PTRACE (/proc seems to be mounted with hidepid)";

/// The kinds of trouble with looking at processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Trouble {
    /// A permission is missing.
    Denied,
    /// Reads hang.
    #[strum(serialize = "timed_out")]
    Slow,
    /// Anything else.
    #[strum(serialize = "failed")]
    Odd,
}

impl Trouble {
    /// `denied`, `timed_out` or `failed`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Why no answer could be given. Never to be read as "no progress".
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProgressError {
    /// The kernel refused a read for want of a capability.
    #[error("the progress daemon may not look at the node's processes: {missing} is missing")]
    Refused {
        /// What was to be read.
        path: PathBuf,
        /// The capability the daemon would need.
        missing: &'static str,
    },
    /// /proc shows the daemon only its own processes.
    #[error(
        "the node's processes are hidden from the progress daemon: /proc is mounted with hidepid and CAP_SYS_PTRACE is missing"
    )]
    Hidden {
        /// The /proc in question.
        path: PathBuf,
    },
    /// A read did not return in time.
    #[error("the node's processes could not be looked at within {limit:?}")]
    TimedOut {
        /// What was being read.
        path: PathBuf,
        /// The limit for such a read. A read after one that hangs is given up sooner, and a process that is known to
        /// hang is not read.
        limit: Duration,
    },
    /// So many earlier reads hang that no new one is begun.
    #[error("too many looks at the node's processes hang")]
    Busy {
        /// What was to be read.
        path: PathBuf,
        /// How many reads hang.
        hanging: usize,
    },
    /// The kernel's text was not what it should be.
    #[error("the progress daemon does not understand the node's process information")]
    Malformed {
        /// The file that was read.
        path: PathBuf,
        /// Which item of it.
        item: &'static str,
        /// What should have stood there.
        wanted: &'static str,
    },
    /// Anything else.
    #[error("the node's processes could not be read: {kind}")]
    Io {
        /// What was to be read.
        path: PathBuf,
        /// The kind of failure.
        kind: io::ErrorKind,
        /// The system's own words.
        cause: String,
    },
}

impl ProgressError {
    /// The file or folder the error is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Refused { path, .. }
            | Self::Hidden { path }
            | Self::TimedOut { path, .. }
            | Self::Busy { path, .. }
            | Self::Malformed { path, .. }
            | Self::Io { path, .. } => path,
        }
    }

    /// What kind of trouble it is.
    pub fn kind(&self) -> Trouble {
        match self {
            Self::Refused { .. } | Self::Hidden { .. } => Trouble::Denied,
            Self::TimedOut { .. } | Self::Busy { .. } => Trouble::Slow,
            Self::Malformed { .. } | Self::Io { .. } => Trouble::Odd,
        }
    }

    /// One line for the log: what the caller is told, and what only the operator should see.
    pub fn detail(&self) -> String {
        let path = self.path().display();
        match self {
            Self::Malformed { item, wanted, .. } => {
                format!("{self}: {path}: {item} is not {wanted}")
            }
            Self::Io { cause, .. } => format!("{self}: {path}: {cause}"),
            Self::Busy { hanging, .. } => format!("{self}: {path}: {hanging} hang"),
            _ => format!("{self}: {path}"),
        }
    }

    /// Sorts a failed read: a vanished process is `None`, everything else keeps its path.
    pub(in crate::progress) fn from_read(
        path: &Path,
        missing: &'static str,
        error: &io::Error,
    ) -> Option<Self> {
        // ESRCH has no ErrorKind of its own; a pid's folder can also be an ordinary file's name.
        const ESRCH: i32 = 3;
        if error.raw_os_error() == Some(ESRCH) {
            return None;
        }
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => None,
            io::ErrorKind::PermissionDenied => Some(Self::Refused {
                path: path.to_owned(),
                missing,
            }),
            kind => Some(Self::Io {
                path: path.to_owned(),
                kind,
                cause: error.to_string(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vanished_process_is_no_error() {
        for code in [2, 3, 20] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(
                ProgressError::from_read(Path::new("/proc/1/stat"), PROC_NEEDS, &error),
                None
            );
        }
    }

    #[test]
    fn refusals_name_the_capability_to_the_caller_and_the_path_to_the_log() {
        for code in [1, 13] {
            let error = io::Error::from_raw_os_error(code);
            let refused =
                ProgressError::from_read(Path::new("/proc/1/fdinfo/1"), FDINFO_NEEDS, &error)
                    .unwrap();
            assert!(refused.to_string().contains("CAP_SYS_PTRACE"));
            assert!(!refused.to_string().contains("/proc/1"));
            assert!(refused.detail().contains("/proc/1/fdinfo/1"));
        }
    }

    #[test]
    fn anything_else_keeps_the_systems_words() {
        let error = io::Error::from_raw_os_error(5);
        let io = ProgressError::from_read(Path::new("/proc/1/stat"), PROC_NEEDS, &error).unwrap();
        assert!(io.detail().contains("/proc/1/stat"));
        assert!(io.detail().contains("os error 5"));
    }
}
