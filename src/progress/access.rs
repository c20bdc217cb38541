//! Checks whether this process may read other processes' fdinfo and fd links, by trying pids 1 and 2.
//!
//! Both are root's and may do all that root may, as a dd of cinder-volume's.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::file_based::open_files::may_be_cinder_volume;
use super::proc::error::{FD_NEEDS, PROC_NEEDS, ProgressError};
use super::proc::{fdinfo, new_pids, process};

/// The processes whose descriptors are tried: init, and the parent of the kernel's threads where init is out
/// of reach, as on a machine that another program started.
const FIRST: [process::Pid; 2] = [1, 2];

/// The namespace of process ids that a node begins with (`PROC_PID_INIT_INO` in `linux/proc_ns.h`).
const FIRST_PIDS: &str = "pid:[4026531836]";

/// Longest time for a look.
const LIMIT: Duration = Duration::from_secs(5);

/// Bits of capabilities (`linux/capability.h`).
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SYS_PTRACE: u32 = 19;

/// What this process can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAccess {
    /// Positions, in `fdinfo`: copies by dd.
    pub positions: Result<(), ProgressError>,
    /// Open files, by the links in `fd`: copies through open files.
    pub links: Result<(), ProgressError>,
    /// What surrounds this process, if it is a container.
    pub container: Container,
    /// Whether the process that was tried is root's; in a container it may not be.
    pub of_root: bool,
    /// The daemons that run.
    pub daemons: Vec<Daemon>,
}

/// How a container may change the view of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// The processes are those of a separate namespace, and no cinder-volume is among them.
    pub apart: bool,
    /// `loadavg` is not the kernel's: lxcfs covers it, and shows the host's last process id.
    pub covered: bool,
    /// The profile of AppArmor, or the label of SELinux, that refuses what the capability allows.
    pub refused_by: Option<String>,
}

/// A running cinder-progress, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Its process id.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Whether it has `CAP_SYS_PTRACE`.
    pub ptrace: bool,
    /// Whether it has `CAP_DAC_READ_SEARCH`.
    pub read_search: bool,
}

/// Tries `proc` with this process's rights, and looks for running daemons. Within a runtime.
pub async fn access(proc: &Path) -> NodeAccess {
    let folder = proc.to_owned();
    let looking = tokio::task::spawn_blocking(move || look(&folder));
    match tokio::time::timeout(LIMIT, looking).await {
        Ok(Ok(access)) => access,
        _ => {
            let hangs = ProgressError::TimedOut {
                path: proc.to_owned(),
                limit: LIMIT,
            };
            NodeAccess {
                positions: Err(hangs.clone()),
                links: Err(hangs),
                container: Container::default(),
                of_root: true,
                daemons: Vec::new(),
            }
        }
    }
}

fn look(proc: &Path) -> NodeAccess {
    let root = |pid: &process::Pid| {
        fs::metadata(proc.join(pid.to_string())).is_ok_and(|folder| folder.uid() == 0)
    };
    let positions = any(proc, positions);
    let refused = matches!(positions, Err(ProgressError::Refused { .. }));
    NodeAccess {
        container: container(proc, refused),
        positions,
        links: any(proc, links),
        of_root: FIRST.iter().any(root),
        daemons: daemons(proc),
    }
}

/// Whether the process ids of this process are not the node's own.
pub(super) fn is_apart(proc: &Path) -> bool {
    fs::read_link(proc.join("self/ns/pid")).is_ok_and(|pids| pids != Path::new(FIRST_PIDS))
}

/// What surrounds this process. `refused` is whether positions were.
fn container(proc: &Path, refused: bool) -> Container {
    let own = proc.join("self");
    let apart = is_apart(proc);
    let has_cinder_volume = || {
        let pids = process::list(proc).unwrap_or_default();
        pids.into_iter().any(|(pid, _)| {
            let comm = process::comm(proc, pid).ok().flatten();
            comm.is_some_and(|comm| may_be_cinder_volume(&comm))
        })
    };
    let label = || {
        let label = fs::read_to_string(own.join("attr/current")).ok()?;
        let label = label.trim_matches(['\0', '\n', ' ']).to_owned();
        (!label.is_empty() && label != "unconfined").then_some(label)
    };
    let may = || {
        let status = fs::read_to_string(own.join("status")).unwrap_or_default();
        capabilities(&status).is_some_and(|all| has(all, CAP_SYS_PTRACE))
    };
    Container {
        apart: apart && !has_cinder_volume(),
        covered: new_pids::is_covered(proc),
        refused_by: (refused && may()).then(label).flatten(),
    }
}

/// `CapEff` of a process's status.
fn capabilities(status: &str) -> Option<u64> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(effective.trim(), 16).ok()
}

fn has(capabilities: u64, bit: u32) -> bool {
    capabilities & (1 << bit) != 0
}

/// Whether one of them can be read; else why not.
fn any(
    proc: &Path,
    look: impl Fn(&Path, process::Pid) -> Result<(), ProgressError>,
) -> Result<(), ProgressError> {
    let mut refused = None;
    for pid in FIRST {
        let outcome = match process::comm(proc, pid) {
            Ok(None) => continue,
            Ok(Some(_)) => look(proc, pid),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => return Ok(()),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    if let Some(refused) = refused {
        return Err(refused);
    }
    // Neither is there. Listing the processes tells the cause: hidden, refused, or no /proc at all.
    process::list(proc)?;
    let path = proc.to_owned();
    Err(if process::hides_others(proc) {
        ProgressError::Hidden { path }
    } else {
        ProgressError::Malformed {
            path,
            item: "its content",
            wanted: "that of a procfs: there is no process 1",
        }
    })
}

fn positions(proc: &Path, pid: process::Pid) -> Result<(), ProgressError> {
    for fd in fdinfo::list(proc, pid)? {
        fdinfo::read(proc, pid, fd)?;
    }
    Ok(())
}

fn links(proc: &Path, pid: process::Pid) -> Result<(), ProgressError> {
    let folder = proc.join(pid.to_string()).join("fd");
    let refused = |path: &Path, error: &std::io::Error| {
        ProgressError::from_read(path, FD_NEEDS, error).map_or(Ok(()), Err)
    };
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) => return refused(&folder, &error),
    };
    for entry in entries.flatten() {
        if let Err(error) = fs::read_link(entry.path()) {
            refused(&entry.path(), &error)?;
        }
    }
    Ok(())
}

/// Errors are left out: the other looks report them.
fn daemons(proc: &Path) -> Vec<Daemon> {
    let pids = process::list(proc).unwrap_or_default();
    let is_ours = |&pid: &process::Pid| {
        process::comm(proc, pid).is_ok_and(|comm| comm.as_deref() == Some(b"cinder-progress"))
    };
    pids.into_iter()
        .map(|(pid, _)| pid)
        .filter(|&pid| u32::try_from(pid).is_ok_and(|pid| pid != std::process::id()))
        .filter(is_ours)
        .filter(|&pid| serves(proc, pid))
        .filter_map(|pid| daemon(proc, pid))
        .collect()
}

/// Whether its command line is that of the daemon, not of another verb.
fn serves(proc: &Path, pid: process::Pid) -> bool {
    let path = proc.join(pid.to_string()).join("cmdline");
    let Ok(Some(line)) = process::read(&path, PROC_NEEDS) else {
        return false;
    };
    !line
        .split(|&byte| byte == 0)
        .any(|word| matches!(word, b"status" | b"call" | b"check"))
}

fn daemon(proc: &Path, pid: process::Pid) -> Option<Daemon> {
    let path = proc.join(pid.to_string()).join("status");
    let status = process::read(&path, PROC_NEEDS).ok()??;
    let status = String::from_utf8_lossy(&status).into_owned();
    let item = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    // Real, effective, saved, of the file system.
    let uid = item("Uid:")?.split_whitespace().nth(1)?.parse().ok()?;
    let capabilities = capabilities(&status)?;
    Some(Daemon {
        pid,
        uid,
        ptrace: has(capabilities, CAP_SYS_PTRACE),
        read_search: has(capabilities, CAP_DAC_READ_SEARCH),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::tests::fake_host::Fake;

    #[test]
    fn what_can_be_read_is_seen() {
        let fake = Fake::new();
        fake.process(1, "init").fd(0, "/dev/null", 0, "0100000");
        let access = look(&fake.roots().proc);
        assert_eq!((access.positions, access.links), (Ok(()), Ok(())));
        assert_eq!(access.daemons, []);
    }

    #[test]
    fn a_container_is_known_by_its_namespace_and_its_label() {
        let fake = Fake::new();
        let proc = fake.roots().proc;
        fake.process(1, "init");
        fake.link("proc/self/ns/pid", FIRST_PIDS);
        assert_eq!(container(&proc, false), Container::default());
        fake.link("proc/self/ns/pid", "pid:[4026532001]");
        assert!(container(&proc, false).apart);
        fake.process(30, "cinder-volume");
        assert!(
            !container(&proc, false).apart,
            "it is where cinder-volume is"
        );

        fake.write("proc/self/attr/current", "docker-default (enforce)\n");
        fake.write("proc/self/status", "CapEff:\t0000000000080000\n");
        let refused_by = |refused| container(&proc, refused).refused_by;
        assert_eq!(
            refused_by(true).as_deref(),
            Some("docker-default (enforce)")
        );
        assert_eq!(refused_by(false), None);
        fake.write("proc/self/status", "CapEff:\t0000000000000000\n");
        assert_eq!(refused_by(true), None, "the capability is missing");
        fake.write("proc/self/status", "CapEff:\t0000000000080000\n");
        fake.write("proc/self/attr/current", "unconfined\n");
        assert_eq!(refused_by(true), None);
    }

    #[test]
    fn no_procfs_is_an_error() {
        let fake = Fake::new();
        fake.process(7, "dd");
        let proc = fake.roots().proc;
        assert!(
            any(&proc, positions)
                .unwrap_err()
                .detail()
                .contains("no process 1")
        );
        let missing = any(&proc.join("missing"), positions).unwrap_err();
        assert!(missing.detail().contains("missing"), "{missing:?}");
    }

    #[test]
    fn a_daemons_rights_are_read() {
        let fake = Fake::new();
        let proc = fake.roots().proc;
        for (pid, comm, words, capabilities) in [
            (
                8,
                "cinder-progress",
                "cinder-progress\0serve\0",
                "0000000000080000",
            ),
            (
                9,
                "cinder-progress",
                "cinder-progress\0status\0",
                "0000000000080004",
            ),
            (10, "cinder-volume", "cinder-progress\0", "0000000000080004"),
        ] {
            fake.process(pid, comm);
            let folder = proc.join(pid.to_string());
            fs::write(folder.join("cmdline"), words).unwrap();
            let status = format!("Name:\tx\nUid:\t1\t2\t3\t4\nCapEff:\t{capabilities}\n");
            fs::write(folder.join("status"), status).unwrap();
        }
        let expected = Daemon {
            pid: 8,
            uid: 2,
            ptrace: true,
            read_search: false,
        };
        assert_eq!(daemons(&proc), [expected]);
    }
}
