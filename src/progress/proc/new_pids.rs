//! Processes started since the last look, without listing all the others.
//!
//! Linux gives out process ids in order, beginning anew at the largest, and tells the last one it gave out.
//! So the new processes are known by counting; listing a node's thousands of processes each second would
//! take half a percent of a core.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::error::PROC_NEEDS;
use super::process::{self, Pid};

/// How many ids are tried one by one; beyond that, listing all is no dearer.
pub(in crate::progress) const COUNT_LIMIT: Pid = 256;

/// The last process id given out; `None` where it cannot be known.
///
/// The kernel answers for the reader's own PID namespace. A /proc of another namespace, as that of the host in
/// a container, is recognised by the reader's own pid in it.
pub(in crate::progress) fn last_pid(proc: &Path) -> Option<Pid> {
    let own = fs::read_link(proc.join("self")).ok()?;
    if own.to_str()? != std::process::id().to_string() {
        return None;
    }
    if is_covered(proc) {
        return None;
    }
    let text = process::read(&proc.join("loadavg"), PROC_NEEDS).ok()??;
    String::from_utf8_lossy(&text)
        .split_whitespace()
        .next_back()?
        .parse()
        .ok()
}

/// Whether a file of another file system lies over the kernel's own, as lxcfs does it in a container: its
/// numbers are the host's.
pub(in crate::progress) fn is_covered(proc: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    device(&proc.join("loadavg")).is_some_and(|covering| Some(covering) != device(proc))
}

/// Those of the processes after `before` up to `last` that are there, with the inode number of their folders; `None`
/// when there are too many, when ids have begun anew, and when one of them cannot be looked at. Those in
/// `known`, by the same inode number, are known to be processes and no threads.
pub(in crate::progress) fn between(
    proc: &Path,
    before: Pid,
    last: Pid,
    known: &HashMap<Pid, u64>,
) -> Option<Vec<(Pid, u64)>> {
    let count = last.checked_sub(before)?;
    if !(0..=COUNT_LIMIT).contains(&count) {
        return None;
    }
    let mut born = Vec::new();
    for pid in (before..=last).skip(1) {
        let folder = proc.join(pid.to_string());
        let inode = match fs::metadata(&folder) {
            Ok(metadata) => metadata.ino(),
            Err(error) => match process::gone_or::<()>(&folder, PROC_NEEDS, &error) {
                Ok(_) => continue,
                Err(_) => return None,
            },
        };
        if known.get(&pid) == Some(&inode) || is_process(&folder, pid)? {
            born.push((pid, inode));
        }
    }
    Some(born)
}

/// Threads take ids too, and /proc answers to them though it does not list them. `None` when that cannot be told.
fn is_process(folder: &Path, pid: Pid) -> Option<bool> {
    let status = process::read(&folder.join("status"), PROC_NEEDS).ok()?;
    let is_leader = |status: Vec<u8>| {
        String::from_utf8_lossy(&status)
            .lines()
            .find_map(|line| line.strip_prefix("Tgid:"))
            .is_some_and(|group| group.trim() == pid.to_string())
    };
    Some(status.is_some_and(is_leader))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_real_child_is_among_the_newborn_and_a_thread_is_not() {
        let proc = Path::new("/proc");
        let deadline = Instant::now() + Duration::from_secs(60);
        // Others are born meanwhile, and ids may begin anew: then there is nothing to count, and the next child
        // may be luckier.
        while !is_seen_to_be_born(proc) {
            assert!(Instant::now() < deadline, "too many are born all the time");
        }
    }

    /// Whether a child was found by counting; only where so few were born that they can be counted.
    fn is_seen_to_be_born(proc: &Path) -> bool {
        let before = last_pid(proc).unwrap();
        let thread = std::thread::spawn(|| fs::read_link("/proc/thread-self").unwrap());
        let thread = thread.join().unwrap();
        let thread: Pid = thread
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok())
            .unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id().cast_signed();
        let last = last_pid(proc).unwrap();
        let born = between(proc, before, last, &HashMap::new());
        drop(child.stdin.take());
        child.wait().unwrap();
        let Some(born) = born else { return false };
        assert!(born.iter().any(|&(born, _)| born == pid), "{born:?}");
        assert!(born.iter().all(|&(born, _)| born != thread));
        true
    }

    #[test]
    fn the_proc_of_another_namespace_tells_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("loadavg"), "0 0 0 1/2 77\n").unwrap();
        assert_eq!(last_pid(folder.path()), None);
        let own = folder.path().join("self");
        std::os::unix::fs::symlink("1", &own).unwrap();
        assert_eq!(last_pid(folder.path()), None);
        fs::remove_file(&own).unwrap();
        std::os::unix::fs::symlink(std::process::id().to_string(), &own).unwrap();
        assert_eq!(last_pid(folder.path()), Some(77));
    }

    #[test]
    fn counting_has_its_limits() {
        let folder = tempfile::tempdir().unwrap();
        let known = HashMap::new();
        let between = |before, last| between(folder.path(), before, last, &known);
        assert_eq!(between(7, 7), Some(vec![]));
        assert_eq!(between(7, 7 + COUNT_LIMIT), Some(vec![]));
        assert_eq!(between(7, 8 + COUNT_LIMIT), None);
        assert_eq!(between(7, 6), None);
        assert_eq!(between(Pid::MIN, Pid::MAX), None);
    }

    #[test]
    fn who_is_known_to_be_a_process_is_not_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let process = folder.path().join("8");
        fs::create_dir(&process).unwrap();
        let inode = fs::metadata(&process).unwrap().ino();
        for (known, born) in [
            (HashMap::from([(8, inode)]), vec![(8, inode)]),
            (HashMap::from([(8, inode + 1)]), vec![]),
            (HashMap::new(), vec![]),
        ] {
            assert_eq!(between(folder.path(), 7, 9, &known), Some(born));
        }
    }

    #[test]
    fn one_that_cannot_be_looked_at_is_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("8/status")).unwrap();
        assert_eq!(between(folder.path(), 7, 9, &HashMap::new()), None);
        fs::remove_dir(folder.path().join("8/status")).unwrap();
        assert_eq!(between(folder.path(), 7, 9, &HashMap::new()), Some(vec![]));
    }
}
