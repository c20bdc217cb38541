//! Small reads about one process: each is one open, one read, one close.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirEntryExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use procfs::FromRead;
use procfs::process::Stat;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::error::{PROC_NEEDS, ProgressError};
use crate::progress::users::Uids;

/// A process id.
pub(in crate::progress) type Pid = i32;

/// The kernel's clock ticks since boot, as starts of processes are counted (`proc_pid_stat(5)`).
pub(in crate::progress) type Ticks = u64;

/// What identifies a process: the kernel reuses the pid one day, but not with the same start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(in crate::progress) struct ProcessId {
    /// Clock ticks after boot; first, so that ids sort by age.
    pub start: u64,
    /// The process id.
    pub pid: Pid,
}

/// dd's own command line is short; a limit keeps a strange one from filling memory.
const READ_LIMIT: u64 = 64 * 1024;

/// What most files here fit into, so that one read and another to see the end are enough.
const USUAL: usize = 1024;

/// Reads a small file; `None` when the process is gone.
pub(in crate::progress) fn read(
    path: &Path,
    missing: &'static str,
) -> Result<Option<Vec<u8>>, ProgressError> {
    match File::open(path).and_then(contents) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) => gone_or(path, missing, &error),
    }
}

fn contents(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(USUAL);
    file.take(READ_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A process's folder, held open. What is read in it is that process's, even after its pid was reused: the
/// kernel ties an open folder to the process and not to the number.
#[derive(Debug)]
pub(in crate::progress) struct ProcessFolder(OwnedFd);

impl ProcessFolder {
    /// Whose folder it is has to be checked afterwards: an [`identity`] that is still the same was so all along.
    pub(in crate::progress) fn open(proc: &Path, pid: Pid) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, proc.join(pid.to_string()), flags, Mode::empty());
        folder.ok().map(Self)
    }

    /// Reads a small file in it; `None` when that cannot be.
    pub(in crate::progress) fn read(&self, name: &str) -> Option<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.0, name, flags, Mode::empty()).ok()?;
        contents(File::from(file)).ok()
    }
}

/// `Ok(None)` for a process that is gone, the sorted error otherwise.
pub(in crate::progress) fn gone_or<T>(
    path: &Path,
    missing: &'static str,
    error: &io::Error,
) -> Result<Option<T>, ProgressError> {
    match ProgressError::from_read(path, missing, error) {
        None => Ok(None),
        Some(error) => Err(error),
    }
}

/// Every process with the inode number of its folder, which changes when the pid is given away.
pub(in crate::progress) fn list(proc: &Path) -> Result<Vec<(Pid, u64)>, ProgressError> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => ProgressError::Refused {
            path: proc.to_owned(),
            missing: PROC_NEEDS,
        },
        kind => ProgressError::Io {
            path: proc.to_owned(),
            kind,
            cause: error.to_string(),
        },
    };
    let mut pids = Vec::new();
    for entry in fs::read_dir(proc).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let Some(pid) = pid {
            pids.push((pid, entry.ino()));
        }
    }
    Ok(pids)
}

/// When the node was booted, which start times count from.
pub(in crate::progress) fn boot_time(proc: &Path) -> Option<SystemTime> {
    let stat = read(&proc.join("stat"), PROC_NEEDS).ok().flatten()?;
    let seconds = String::from_utf8_lossy(&stat)
        .lines()
        .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// What tells one boot of the node from another: process ids and start times mean nothing across it.
pub(in crate::progress) fn boot_id(proc: &Path) -> String {
    read(&proc.join("sys/kernel/random/boot_id"), PROC_NEEDS)
        .ok()
        .flatten()
        .map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
        .unwrap_or_default()
}

/// Clock ticks of one second.
pub(in crate::progress) fn ticks_per_second() -> Ticks {
    procfs::ticks_per_second()
}

/// This moment by the clock that starts of processes are read from; it counts while the node sleeps.
pub(in crate::progress) fn now() -> Ticks {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = Ticks::try_from(now.tv_sec).unwrap_or(0);
    let parts = Ticks::try_from(now.tv_nsec).unwrap_or(0) * ticks_per_second() / 1_000_000_000;
    seconds * ticks_per_second() + parts
}

/// The time that so many of the kernel's clock ticks take.
pub(in crate::progress) fn ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64)
}

/// Whether this /proc hides other people's processes: cheap, and only asked when pid 1 is not to be seen.
pub(in crate::progress) fn hides_others(proc: &Path) -> bool {
    fs::read_to_string(proc.join("self/mountinfo")).is_ok_and(|mounts| {
        mounts
            .lines()
            .any(|line| line.contains(" - proc ") && line.contains("hidepid="))
    })
}

/// The process's name, without the line end.
pub(in crate::progress) fn comm(proc: &Path, pid: Pid) -> Result<Option<Vec<u8>>, ProgressError> {
    let path = proc.join(pid.to_string()).join("comm");
    Ok(read(&path, PROC_NEEDS)?.map(|bytes| bytes.trim_ascii_end().to_vec()))
}

/// The process's identity; `None` when it is gone, or dead and only waits for its parent.
pub(in crate::progress) fn identity(
    proc: &Path,
    pid: Pid,
) -> Result<Option<ProcessId>, ProgressError> {
    let path = proc.join(pid.to_string()).join("stat");
    let Some(bytes) = read(&path, PROC_NEEDS)? else {
        return Ok(None);
    };
    let stat = well_formed(&bytes)
        .then(|| Stat::from_read(&bytes[..]).ok())
        .flatten()
        .ok_or(ProgressError::Malformed {
            path,
            item: "the line",
            wanted: "that of proc_pid_stat(5)",
        })?;
    let dead = matches!(stat.state, 'Z' | 'X' | 'x');
    Ok((!dead).then_some(ProcessId {
        start: stat.starttime,
        pid,
    }))
}

/// procfs slices around the parentheses of `comm` without looking, which would panic on torn text.
fn well_formed(stat: &[u8]) -> bool {
    let text = String::from_utf8_lossy(stat);
    let line = text.trim();
    match (line.find(" ("), line.rfind(')')) {
        (Some(open), Some(close)) => {
            line.find('(') == Some(open + 1) && close > open && line[close + 1..].starts_with(' ')
        }
        _ => false,
    }
}

/// Who it runs as; `None` when it is gone.
pub(in crate::progress) fn uids(proc: &Path, pid: Pid) -> Result<Option<Uids>, ProgressError> {
    let path = proc.join(pid.to_string()).join("status");
    let Some(status) = read(&path, PROC_NEEDS)? else {
        return Ok(None);
    };
    Uids::parse(&String::from_utf8_lossy(&status))
        .map(Some)
        .ok_or(ProgressError::Malformed {
            path,
            item: "the user",
            wanted: "that of proc_pid_status(5)",
        })
}

/// The command line; `None` when the process is gone, empty when it has none (yet, or any more).
pub(in crate::progress) fn arguments(
    proc: &Path,
    pid: Pid,
) -> Result<Option<Vec<String>>, ProgressError> {
    let path = proc.join(pid.to_string()).join("cmdline");
    Ok(read(&path, PROC_NEEDS)?.map(|bytes| {
        bytes
            .split(|&byte| byte == 0)
            .filter(|argument| !argument.is_empty())
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::tests::fake_host::Fake;
    use proptest::prelude::*;

    #[test]
    fn a_process_is_read() {
        let fake = Fake::new();
        fake.process(7, "dd")
            .start(99)
            .arguments(&["dd", "if=/dev/sdb"]);
        let proc = &fake.roots().proc;
        assert_eq!(comm(proc, 7), Ok(Some(b"dd".to_vec())));
        assert_eq!(identity(proc, 7), Ok(Some(ProcessId { start: 99, pid: 7 })));
        assert_eq!(
            arguments(proc, 7),
            Ok(Some(vec!["dd".to_owned(), "if=/dev/sdb".to_owned()]))
        );
        assert_eq!(list(proc).unwrap().len(), 1);
    }

    #[test]
    fn an_open_folder_is_that_processs_own() {
        let fake = Fake::new();
        let proc = &fake.roots().proc;
        fake.process(7, "dd").file("fdinfo/1", "first");
        let folder = ProcessFolder::open(proc, 7).unwrap();
        assert_eq!(folder.read("fdinfo/1").as_deref(), Some(&b"first"[..]));
        fake.end(7);
        fake.process(7, "dd").file("fdinfo/1", "second");
        assert_eq!(folder.read("fdinfo/1"), None);
        assert!(ProcessFolder::open(proc, 8).is_none());

        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let folder = ProcessFolder::open(Path::new("/proc"), child.id().cast_signed()).unwrap();
        assert!(folder.read("fdinfo/1").is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(folder.read("fdinfo/1"), None);
    }

    #[test]
    fn a_missing_process_is_gone_and_so_is_a_dead_one() {
        let fake = Fake::new();
        fake.process(7, "dd").state('Z');
        let proc = &fake.roots().proc;
        assert_eq!(identity(proc, 7), Ok(None));
        assert_eq!(identity(proc, 8), Ok(None));
        assert_eq!(comm(proc, 8), Ok(None));
        assert_eq!(arguments(proc, 8), Ok(None));
    }

    #[test]
    fn a_strange_stat_line_names_its_file() {
        let fake = Fake::new();
        fake.process(7, "dd").file("stat", "7 (dd)");
        let error = identity(&fake.roots().proc, 7).unwrap_err();
        assert!(error.path().ends_with("7/stat"), "{error:?}");
    }

    #[test]
    fn hidepid_is_read_from_the_mount_table() {
        let fake = Fake::new();
        let proc = &fake.roots().proc;
        assert!(!hides_others(proc));
        fake.write(
            "proc/self/mountinfo",
            "21 1 0:20 / /proc rw,nosuid - proc proc rw\n",
        );
        assert!(!hides_others(proc));
        fake.write(
            "proc/self/mountinfo",
            "21 1 0:20 / /proc rw,nosuid - proc proc rw,hidepid=invisible\n",
        );
        assert!(hides_others(proc));
    }

    proptest! {
        #[test]
        fn no_stat_line_makes_the_reader_panic(line in r"[0-9 ]{0,4}\(?[a-z()é ]{0,8}\)?[ 0-9A-Z)(-]{0,200}") {
            if well_formed(line.as_bytes()) {
                let _ = Stat::from_read(line.as_bytes());
            }
        }
    }
}
