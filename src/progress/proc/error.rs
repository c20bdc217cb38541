//! Errors of reading processes. `Display` is for the caller, [`ProgressError::detail`] for the log.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};
use thiserror::Error;

/// What reading `fdinfo` needs. Since Linux 5.14 ptrace access is enough. Before, the mode bits of the folder also kept
/// other users out.
pub(super) const FDINFO_NEEDS: &str =
    "CAP_SYS_PTRACE (on kernels before 5.14 also CAP_DAC_READ_SEARCH)";

/// What reading the links in `fd` needs, which name the open files.
pub(in crate::progress) const FD_NEEDS: &str = "one of CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH";

/// What reading `comm`, `stat` and `cmdline` needs. Everyone may read them unless /proc is mounted with `hidepid`.
pub(in crate::progress) const PROC_NEEDS: &str =
    "CAP_SYS_PTRACE (/proc seems to be mounted with hidepid)";

/// The kinds of [`ProgressError`].
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

/// Why there is no answer. An error never means "no progress".
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
        /// How long the daemon waited for it.
        limit: Duration,
    },
    /// So many earlier reads hang that no new one is started.
    #[error("too many looks at the node's processes hang")]
    Busy {
        /// What was to be read.
        path: PathBuf,
        /// How many reads hang.
        hanging: usize,
    },
    /// A file of the kernel did not have its format.
    #[error("the progress daemon does not understand the node's process information")]
    Malformed {
        /// The file that was read.
        path: PathBuf,
        /// The item in that file.
        item: &'static str,
        /// What the item should have been.
        wanted: &'static str,
    },
    /// Anything else.
    #[error("the node's processes could not be read: {kind}")]
    Io {
        /// What was to be read.
        path: PathBuf,
        /// The kind of failure.
        kind: io::ErrorKind,
        /// The system's error text.
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

    /// The kind of this error.
    pub fn kind(&self) -> Trouble {
        match self {
            Self::Refused { .. } | Self::Hidden { .. } => Trouble::Denied,
            Self::TimedOut { .. } | Self::Busy { .. } => Trouble::Slow,
            Self::Malformed { .. } | Self::Io { .. } => Trouble::Odd,
        }
    }

    /// One line for the log: the text for the caller, and the path and cause, which only the operator should see.
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

    /// The error of a failed read. `None` if the process is gone.
    pub(in crate::progress) fn from_read(
        path: &Path,
        missing: &'static str,
        error: &io::Error,
    ) -> Option<Self> {
        // ESRCH has no ErrorKind. ENOTDIR: an ordinary file of /proc may be where a pid's folder was expected.
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
