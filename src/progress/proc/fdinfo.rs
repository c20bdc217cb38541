//! Descriptor positions, and which descriptor writes the destination.
//!
//! procfs reads what a descriptor points to, but not its position: that is this file's own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{FDINFO_NEEDS, ProgressError};
use super::process::{self, Pid, ProcessFolder};
use crate::progress::device::Identity;

/// A descriptor's number.
pub(in crate::progress) type Fd = u32;

/// What `/proc/<pid>/fdinfo/<fd>` says of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::progress) struct FdInfo {
    /// `pos`: where the next byte goes.
    pub position: u64,
    /// `flags` of open(2), octal in the file.
    flags: Option<u32>,
    /// `ino` of the open file; since Linux 5.14.
    pub inode: Option<u64>,
    /// `mnt_id` of the mount it was opened on.
    pub mount: Option<u64>,
}

/// The access mode's bits in the flags, the same on every architecture Linux runs on.
const O_ACCMODE: u32 = 0o3;
const O_RDONLY: u32 = 0;
const O_WRONLY: u32 = 1;
const O_APPEND: u32 = 0o2000;

/// Where a dd's destination was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::progress) struct Found {
    /// The descriptor.
    pub fd: Fd,
    /// Its position.
    pub position: u64,
    /// Whether it is the destination beyond doubt, so that no further search is needed.
    pub sure: bool,
}

impl FdInfo {
    /// Reads the file's text; the error names the item that is wrong.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let item = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        let position = item("pos")
            .and_then(|value| value.parse().ok())
            .ok_or("pos")?;
        let flags = match item("flags") {
            Some(value) => Some(u32::from_str_radix(value, 8).map_err(|_| "flags")?),
            None => None,
        };
        let number = |name: &str| item(name).and_then(|value| value.parse().ok());
        Ok(Self {
            position,
            flags,
            inode: number("ino"),
            mount: number("mnt_id"),
        })
    }

    /// Whether it can be read from.
    pub(in crate::progress) fn reads(&self) -> bool {
        self.flags.is_none_or(|flags| flags & O_ACCMODE != O_WRONLY)
    }

    /// Whether it can be written to.
    pub(in crate::progress) fn writes(&self, fd: Fd) -> bool {
        match self.flags {
            Some(flags) => flags & O_ACCMODE != O_RDONLY,
            None => fd == 1,
        }
    }

    /// Whether it writes at the end only, as logs are written.
    pub(in crate::progress) fn appends(&self) -> bool {
        self.flags.is_some_and(|flags| flags & O_APPEND != 0)
    }
}

/// One descriptor's information; `None` when the process or the descriptor is gone.
pub(in crate::progress) fn read(
    proc: &Path,
    pid: Pid,
    fd: Fd,
) -> Result<Option<FdInfo>, ProgressError> {
    let path = proc
        .join(pid.to_string())
        .join("fdinfo")
        .join(fd.to_string());
    let Some(bytes) = process::read(&path, FDINFO_NEEDS)? else {
        return Ok(None);
    };
    match FdInfo::parse(&String::from_utf8_lossy(&bytes)) {
        Ok(info) => Ok(Some(info)),
        Err(item) => Err(ProgressError::Malformed {
            path,
            item,
            wanted: "a number",
        }),
    }
}

/// The same, read in the folder of a process; `None` where there is anything to be asked about it.
pub(in crate::progress) fn read_in(folder: &ProcessFolder, fd: Fd) -> Option<FdInfo> {
    let bytes = folder.read(&format!("fdinfo/{fd}"))?;
    FdInfo::parse(&String::from_utf8_lossy(&bytes)).ok()
}

/// Finds the descriptor that writes `destination`; `None` when none is open.
///
/// GNU dd and busybox move the destination to descriptor 1; uutils keeps it where it was opened. And
/// for a moment after its start every dd still has its parent's descriptor 1. The link in `fd/` decides,
/// but reading it takes one capability more than reading `fdinfo`; there the inode number does the same.
/// Where neither can be read, the writable descriptor with the highest position is taken.
pub(in crate::progress) fn destination(
    proc: &Path,
    pid: Pid,
    destination: &Identity,
) -> Result<Option<Found>, ProgressError> {
    let mut by_inode = None;
    let mut guess: Option<Found> = None;
    for fd in list(proc, pid)? {
        let Some(info) = read(proc, pid, fd)? else {
            continue;
        };
        if !info.writes(fd) {
            continue;
        }
        let found = |sure| Found {
            fd,
            position: info.position,
            sure,
        };
        let link = fs::read_link(proc.join(pid.to_string()).join("fd").join(fd.to_string()));
        match &link {
            Ok(target) if destination.is(&target.to_string_lossy()) => {
                return Ok(Some(found(true)));
            }
            Ok(target) if !target.is_absolute() || target.starts_with("/dev/null") => continue,
            _ => {}
        }
        if info.inode.is_some() && info.inode == destination.inode() {
            by_inode = by_inode.or(Some(found(true)));
        }
        // Descriptor 2 takes dd's messages, an appending one belongs to a log, and a target outside of /dev is no
        // device.
        let no_device = |target: &PathBuf| !target.to_string_lossy().contains("/dev/");
        let likely = fd != 2
            && !info.appends()
            && !(destination.is_device() && link.as_ref().is_ok_and(no_device));
        if likely && guess.is_none_or(|best| info.position > best.position) {
            guess = Some(found(false));
        }
    }
    Ok(by_inode.or(guess))
}

/// The open descriptors, 1 first because it is the destination nearly always.
pub(in crate::progress) fn list(proc: &Path, pid: Pid) -> Result<Vec<Fd>, ProgressError> {
    let path = proc.join(pid.to_string()).join("fdinfo");
    let names: io::Result<Vec<_>> = fs::read_dir(&path).and_then(Iterator::collect);
    let mut fds: Vec<Fd> = match names {
        Ok(names) => names
            .iter()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect(),
        Err(error) => process::gone_or(&path, FDINFO_NEEDS, &error)?.unwrap_or_default(),
    };
    fds.sort_by_key(|&fd| (fd != 1, fd));
    Ok(fds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::tests::fake_host::Fake;
    use proptest::prelude::*;

    const WRITE: &str = "0140001";
    const READ: &str = "0140000";

    fn find(fake: &Fake, path: &str) -> Option<Found> {
        let roots = fake.roots();
        destination(&roots.proc, 7, &Identity::of(&roots, path)).unwrap()
    }

    #[test]
    fn a_kernels_text_is_read() {
        let info =
            FdInfo::parse("pos:\t1048576\nflags:\t0140001\nmnt_id:\t17\nino:\t1365\n").unwrap();
        assert_eq!(info.position, 1_048_576);
        assert_eq!(info.inode, Some(1365));
        assert!(info.writes(1));
        assert_eq!(FdInfo::parse("flags:\t0\n"), Err("pos"));
        assert_eq!(FdInfo::parse("pos:\t1\nflags:\t9\n"), Err("flags"));
    }

    #[test]
    fn gnu_dd_has_its_destination_on_descriptor_1() {
        let fake = Fake::new();
        fake.process(7, "dd")
            .fd(0, "/dev/sdb", 8192, READ)
            .fd(1, "/dev/sda", 4096, WRITE);
        let found = find(&fake, "/dev/sda").unwrap();
        assert_eq!((found.fd, found.position, found.sure), (1, 4096, true));
    }

    #[test]
    fn uutils_dd_keeps_it_elsewhere() {
        // As uu_dd 0.12 has it: all it was started with stays, what it opens is closed on exec.
        let fake = Fake::new();
        fake.process(7, "dd")
            .fd(0, "/dev/null", 0, READ)
            .fd(1, "/var/log/cinder.log", 999_999, WRITE)
            .fd(2, "pipe:[7]", 0, WRITE)
            .fd(3, "/dev/sdb", 8192, "02100000")
            .fd(4, "/dev/sda", 4096, "02100001");
        let found = find(&fake, "/dev/sda").unwrap();
        assert_eq!((found.fd, found.position, found.sure), (4, 4096, true));
    }

    #[test]
    fn without_links_the_inode_number_tells() {
        let fake = Fake::new();
        fake.write("dev/sda", "");
        let inode = fake.inode("dev/sda");
        fake.process(7, "dd")
            .fdinfo(1, "pos:\t77777\nflags:\t01\nino:\t1\n")
            .fdinfo(2, "pos:\t88888\nflags:\t01\nino:\t2\n")
            .fdinfo(4, &format!("pos:\t4096\nflags:\t0140001\nino:\t{inode}\n"));
        let found = find(&fake, "/dev/sda").unwrap();
        assert_eq!((found.fd, found.position, found.sure), (4, 4096, true));
    }

    #[test]
    fn without_links_and_inodes_the_furthest_writer_is_taken_but_not_for_sure() {
        let fake = Fake::new();
        fake.process(7, "dd")
            .fdinfo(0, "pos:\t8192\nflags:\t0140000\n")
            .fdinfo(1, "pos:\t0\nflags:\t01\n")
            .fdinfo(2, "pos:\t999999\nflags:\t01\n")
            .fdinfo(3, "pos:\t999999\nflags:\t02001\n")
            .fdinfo(4, "pos:\t4096\nflags:\t0140002\n");
        let found = find(&fake, "/dev/sda").unwrap();
        assert_eq!((found.fd, found.position, found.sure), (4, 4096, false));
    }

    #[test]
    fn before_dd_has_opened_its_destination_there_is_none() {
        let fake = Fake::new();
        fake.process(7, "dd")
            .fd(0, "/dev/sdb", 0, READ)
            .fd(1, "pipe:[5]", 0, "01");
        assert_eq!(find(&fake, "/dev/sda"), None);
    }

    #[test]
    fn where_output_was_led_before_dd_opens_a_device_is_no_destination() {
        let fake = Fake::new();
        fake.process(7, "dd").fd(0, "/dev/sdb", 0, READ).fd(
            1,
            "/var/log/cinder/dd.out",
            999_999,
            WRITE,
        );
        assert_eq!(find(&fake, "/dev/sda"), None);
        assert!(!find(&fake, "/mnt/volume").unwrap().sure);
    }

    #[test]
    fn a_gone_process_has_no_destination() {
        assert_eq!(find(&Fake::new(), "/dev/sda"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(pos|flags|ino|mnt_id|.{0,8}){0,4}:?[\t ]{0,2}.{0,30}\n?") {
            let _ = FdInfo::parse(&text);
        }

        #[test]
        fn every_position_is_read(position: u64, flags in 0_u32..0o7777777) {
            let info = FdInfo::parse(&format!("pos:\t{position}\nflags:\t0{flags:o}\n")).unwrap();
            prop_assert_eq!(info.position, position);
            prop_assert_eq!(info.flags, Some(flags));
        }
    }

    #[test]
    fn damaged_input_as_fdinfo() {
        let seeds =
            [b"pos:\t1048576\nflags:\t0140001\nmnt_id:\t17\nino:\t9\nlock:\t1: FLOCK\n".to_vec()];
        crate::mutation::try_many("fdinfo", &seeds, |input| {
            let _ = FdInfo::parse(&String::from_utf8_lossy(input));
        });
    }
}
