//! The files that a process has open, and their positions.
//!
//! cinder-volume copies through open files where one end is no file at all, such as an image in Ceph:
//! it reads a piece here and writes it there, and the descriptor of the end that is a file moves.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::progress::Roots;
use crate::progress::device::Identity;
use crate::progress::proc::error::{FD_NEEDS, ProgressError};
use crate::progress::proc::fdinfo::{self, Fd, FdInfo};
use crate::progress::proc::process::{self, Pid, ProcessId};

/// qemu-img reads and writes at offsets of its own: its descriptors stay at position 0.
const STANDS_STILL: &[u8] = b"qemu-img";

/// How many descriptors of one process are looked at; cinder-volume has a hundred or two.
const FD_LIMIT: usize = 4096;

/// The mount table of a node full of containers is some hundred KiB.
const MOUNTS_LIMIT: u64 = 4 * 1024 * 1024;

/// Whether a process of this name may copy through open files.
pub(in crate::progress) fn may_copy(comm: &[u8]) -> bool {
    comm.starts_with(b"python") || may_be_cinder_volume(comm) || comm == STANDS_STILL
}

/// Whether this is the name of cinder-volume: the kernel calls a script by its file's name. (One that is
/// run by way of `env` is called as its interpreter; its command line would tell, but reading the command
/// lines of other programs than dd can hang.)
pub(in crate::progress) fn may_be_cinder_volume(comm: &[u8]) -> bool {
    comm.starts_with(b"cinder-volume")
}

/// A file or device that a process has open.
#[derive(Debug, Clone)]
pub(in crate::progress) struct OpenFile {
    /// The process that has it open.
    pub id: ProcessId,
    /// The descriptor there.
    pub fd: Fd,
    /// How far it is.
    pub position: u64,
    /// Whether it is read.
    pub reads: bool,
    /// Whether it is written.
    pub writes: bool,
    /// Whether its position grows with a copy.
    pub moves: bool,
    /// Its names; none where the kernel tells none.
    pub identity: Identity,
    /// File system and inode.
    pub place: Option<Place>,
    /// Tells it from a file that gets the same descriptor later.
    pub mark: Mark,
}

/// A file by the device of its file system, as `major:minor`, and its inode number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::progress) struct Place {
    /// The file system's device.
    pub device: String,
    /// The inode number there.
    pub inode: u64,
}

/// What tells an open file from another that later has the same descriptor.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
pub(in crate::progress) struct Mark {
    inode: Option<u64>,
    mount: Option<u64>,
}

impl From<FdInfo> for Mark {
    fn from(info: FdInfo) -> Self {
        Self {
            inode: info.inode,
            mount: info.mount,
        }
    }
}

/// Every file and device that the process has open, without those that are never copied.
///
/// # Errors
///
/// When the kernel does not let us see; not for a process that is gone, which has nothing open.
pub(in crate::progress) fn of(roots: &Roots, pid: Pid) -> Result<Vec<OpenFile>, ProgressError> {
    let proc = &roots.proc;
    let (Some(comm), Some(id)) = (process::comm(proc, pid)?, process::identity(proc, pid)?) else {
        return Ok(Vec::new());
    };
    let mut files = Vec::new();
    for fd in fdinfo::list(proc, pid)?.into_iter().take(FD_LIMIT) {
        let link = link(proc, pid, fd);
        if link.as_deref().is_ok_and(|link| !may_be_copied(link)) {
            continue;
        }
        let Some(info) = fdinfo::read(proc, pid, fd)? else {
            continue;
        };
        if info.appends() {
            continue;
        }
        files.push(OpenFile {
            id,
            fd,
            position: info.position,
            reads: info.reads(),
            writes: info.writes(fd),
            moves: comm != STANDS_STILL,
            identity: link
                .map(|link| Identity::of_open_file(roots, &link))
                .unwrap_or_default(),
            place: None,
            mark: info.into(),
        });
    }
    if !files.is_empty() {
        let mounts = mounts(proc, pid);
        for file in &mut files {
            file.place = place(&mounts, file.mark);
        }
    }
    // The list is of use only if the pid was not reused meanwhile.
    if process::identity(proc, pid)? != Some(id) {
        files.clear();
    }
    Ok(files)
}

/// The state of a file that was open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::progress) enum FileState {
    /// It is open, at this position.
    Open(u64),
    /// It was closed; its process lives.
    Closed,
    /// Its process is gone.
    Gone,
}

/// Looks at an open file again: one small read, and another to check the process.
pub(in crate::progress) fn again(
    proc: &Path,
    id: ProcessId,
    fd: Fd,
    mark: Mark,
) -> Result<FileState, ProgressError> {
    let info = fdinfo::read(proc, id.pid, fd);
    if process::identity(proc, id.pid)? != Some(id) {
        return Ok(FileState::Gone);
    }
    Ok(match info? {
        Some(info) if Mark::from(info) == mark => FileState::Open(info.position),
        _ => FileState::Closed,
    })
}

/// The size of an open regular file. Its file system is asked, and may hang.
pub(in crate::progress) fn size(proc: &Path, pid: Pid, fd: Fd) -> Option<u64> {
    let path = proc.join(pid.to_string()).join("fd").join(fd.to_string());
    let metadata = fs::metadata(path).ok()?;
    metadata.is_file().then_some(metadata.len())
}

/// Whether the links of a process's descriptors can be read at all.
pub(in crate::progress) fn links_are_hidden(proc: &Path, pid: Pid) -> Option<ProgressError> {
    let path = proc.join(pid.to_string()).join("fd");
    let error = fs::read_dir(&path).err()?;
    ProgressError::from_read(&path, FD_NEEDS, &error)
}

fn link(proc: &Path, pid: Pid, fd: Fd) -> Result<String, std::io::Error> {
    let path = proc.join(pid.to_string()).join("fd").join(fd.to_string());
    fs::read_link(path).map(|target| target.to_string_lossy().into_owned())
}

/// Pipes and sockets are not, nor terminals, nor what a Python program reads of itself.
fn may_be_copied(link: &str) -> bool {
    let aside = [
        "/dev/null",
        "/dev/zero",
        "/dev/pts/",
        "/dev/urandom",
        "/proc/",
        "/sys/",
    ];
    link.starts_with('/') && !aside.iter().any(|start| link.starts_with(start))
}

/// The mount table as the process has it: mount number and device of each.
fn mounts(proc: &Path, pid: Pid) -> Vec<(u64, String)> {
    let mut text = Vec::new();
    let path = proc.join(pid.to_string()).join("mountinfo");
    let read = File::open(path).and_then(|file| file.take(MOUNTS_LIMIT).read_to_end(&mut text));
    if read.is_err() {
        return Vec::new();
    }
    mounts_in(&String::from_utf8_lossy(&text))
}

fn mounts_in(text: &str) -> Vec<(u64, String)> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let number = words.next()?.parse().ok()?;
            Some((number, words.nth(1)?.to_owned()))
        })
        .collect()
}

fn place(mounts: &[(u64, String)], mark: Mark) -> Option<Place> {
    let (inode, mount) = mark.inode.zip(mark.mount)?;
    let (_, device) = mounts.iter().find(|(number, _)| *number == mount)?;
    Some(Place {
        device: device.clone(),
        inode,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::tests::fake_host::Fake;

    #[test]
    fn those_who_copy_go_by_these_names() {
        for comm in [
            "python",
            "python3",
            "python3.11",
            "cinder-volume",
            "qemu-img",
        ] {
            assert!(may_copy(comm.as_bytes()), "{comm}");
        }
        for comm in ["dd", "qemu-system-x86", "cinder-rootwrap", "bash"] {
            assert!(!may_copy(comm.as_bytes()), "{comm}");
        }
    }

    #[test]
    fn only_what_can_be_copied_is_listed() {
        let fake = Fake::new();
        fake.process(7, "python3")
            .fd(0, "/dev/null", 0, "0100000")
            .fd(1, "socket:[5]", 0, "02")
            .fd(2, "/var/log/cinder.log", 900, "0102001")
            .fd(3, "/mnt/volume-1", 4096, "0100000")
            .fd(4, "/mnt/volume-2", 2048, "0100001");
        let files = of(&fake.roots(), 7).unwrap();
        let seen: Vec<_> = files
            .iter()
            .map(|file| (file.fd, file.position, file.reads, file.writes))
            .collect();
        assert_eq!(seen, [(3, 4096, true, false), (4, 2048, false, true)]);
        assert!(of(&fake.roots(), 8).unwrap().is_empty());
    }

    #[test]
    fn a_file_has_a_place_by_its_mount_though_its_name_is_hidden() {
        let fake = Fake::new();
        fake.process(7, "python3")
            .fdinfo(3, "pos:\t5\nflags:\t0100000\nmnt_id:\t36\nino:\t99\n")
            .file(
                "mountinfo",
                "21 1 0:20 / /proc rw - proc proc rw\n36 1 98:0 / /mnt rw - ext3 /dev/x rw\n",
            );
        let files = of(&fake.roots(), 7).unwrap();
        let place = Place {
            device: "98:0".to_owned(),
            inode: 99,
        };
        assert_eq!(files[0].place, Some(place));
        assert!(
            links_are_hidden(&fake.roots().proc, 7).is_none(),
            "no folder is no refusal"
        );
    }

    #[test]
    fn a_descriptor_given_to_another_file_was_closed() {
        let fake = Fake::new();
        let proc = &fake.roots().proc;
        fake.process(7, "python3")
            .fdinfo(3, "pos:\t5\nflags:\t0100000\nmnt_id:\t36\nino:\t99\n");
        let file = of(&fake.roots(), 7).unwrap().remove(0);
        let state = || again(proc, file.id, file.fd, file.mark).unwrap();
        assert_eq!(state(), FileState::Open(5));
        fake.write(
            "proc/7/fdinfo/3",
            "pos:\t6\nflags:\t0100000\nmnt_id:\t36\nino:\t98\n",
        );
        assert_eq!(state(), FileState::Closed);
        fake.remove("proc/7/fdinfo/3");
        assert_eq!(state(), FileState::Closed);
        fake.process(7, "python3").start(900);
        assert_eq!(state(), FileState::Gone);
        fake.end(7);
        assert_eq!(state(), FileState::Gone);
    }

    #[test]
    fn damaged_input_as_mountinfo() {
        let seeds = [
            b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
              21 1 0:20 / /proc rw - proc proc rw,hidepid=invisible\n"
                .to_vec(),
        ];
        crate::mutation::try_many("mountinfo", &seeds, |input| {
            let _ = mounts_in(&String::from_utf8_lossy(input));
        });
    }
}
