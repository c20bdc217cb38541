//! Finds processes started since the last scan, without listing all processes.
//!
//! Linux assigns process ids in ascending order and starts again after the largest. `/proc/loadavg` has the last id
//! that was assigned. So the new processes are those with the ids between. Listing a node's thousands of processes each
//! second would take half a percent of a core.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::error::PROC_NEEDS;
use super::process::{self, Pid};

/// How many ids are tried one by one. Above that, listing all processes costs no more.
pub(in crate::progress) const COUNT_LIMIT: Pid = 256;

/// The last process id that was assigned. `None` if it cannot be known.
///
/// `loadavg` has the last id of the reader's own PID namespace. So `proc` must be of that namespace. The `/proc` of the
/// host, as mounted in a container, is not: the reader has another pid in it.
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

/// Whether another file system is mounted over `loadavg`, as lxcfs does in a container. Its numbers are those of the
/// host.
pub(in crate::progress) fn is_covered(proc: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    device(&proc.join("loadavg")).is_some_and(|covering| Some(covering) != device(proc))
}

/// The processes with ids after `before` up to `last`, each with the inode number of its folder. `None` if there are
/// too many ids, or if the ids have started again. An id in `known` with the same inode number is a process and no
/// thread, without a further read.
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
    Some(
        (before..=last)
            .skip(1)
            .filter_map(|pid| {
                let folder = proc.join(pid.to_string());
                let inode = fs::metadata(&folder).ok()?.ino();
                let is_known = known.get(&pid) == Some(&inode);
                (is_known || is_process(&folder, pid)).then_some((pid, inode))
            })
            .collect(),
    )
}

/// Whether the folder is that of a process. Threads have ids too, and /proc has folders for them that it does not list.
fn is_process(folder: &Path, pid: Pid) -> bool {
    process::read(&folder.join("status"), PROC_NEEDS)
        .ok()
        .flatten()
        .is_some_and(|status| {
            String::from_utf8_lossy(&status)
                .lines()
                .find_map(|line| line.strip_prefix("Tgid:"))
                .is_some_and(|group| group.trim() == pid.to_string())
        })
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
        // Other processes start meanwhile, and ids may start again. Then nothing is counted, and the next child is
        // tried.
        while !is_seen_to_be_born(proc) {
            assert!(Instant::now() < deadline, "too many are born all the time");
        }
    }

    /// Whether the ids could be counted. Checks that then a child is among them and a thread is not.
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
}
