//! One look at a dd that is known: its position, and that it is still the same process.
//!
//! The task that answers runs on the thread that also hands operations over, which must not wait for a disk. And a
//! read of `fdinfo` may: if dd closes the file during our read, our thread holds the last reference to it and must
//! write the device's cache to disk, possibly for minutes, for ever if the device is gone. So the read is made on
//! another thread, by [`BoundedReads`](crate::progress::proc::bounded::BoundedReads).
//!
//! In the kernel:
//!
//! - `seq_show` (`fs/proc/fd.c`) takes only two spin locks, `task_lock` and that of the file table. But in between it
//!   takes a reference to the open file (`get_file`), which it puts at the end (`fput`).
//! - Whoever puts the last reference releases the file, before its `read` returns (`____fput` as task work, `__fput`,
//!   `might_sleep`).
//! - The last release of a block device writes out all that is not written yet (`bdev_release` in `block/bdev.c`:
//!   `sync_blockdev`, "could be several minute").
//! - Measured with a process that closed a loop device again and again, and a reader that did nothing else: in seven of
//!   1,500 closes the reader did the writing, 4 ms for 12 MiB.
//! - Other reads can sleep, too, for less: the look-up of the descriptor takes the directory's `i_rwsem`, and a first
//!   look reads links and command lines, which go through the process's memory.

use std::path::Path;
use std::sync::Arc;

use super::record::{Reading, Record};
use crate::progress::device::Identity;
use crate::progress::proc::error::ProgressError;
use crate::progress::proc::fdinfo::{self, Fd, FdInfo};
use crate::progress::proc::process::{self, ProcessFolder, ProcessId};

/// What a look at a known dd takes.
pub(in crate::progress) struct PositionProbe {
    id: ProcessId,
    destination: Identity,
    /// The descriptor of the destination, if it is known beyond doubt.
    fd: Option<Fd>,
    folder: Option<Arc<ProcessFolder>>,
}

impl PositionProbe {
    pub(in crate::progress) fn of(record: &Record) -> Self {
        Self {
            id: record.dd.id,
            destination: record.dd.destination.clone(),
            fd: record.access.fd,
            folder: record.access.folder.clone(),
        }
    }

    /// Reads the position: one small file as a rule.
    pub(in crate::progress) fn read(
        &self,
        proc: &Path,
    ) -> Result<(Reading, Option<Arc<ProcessFolder>>), ProgressError> {
        if let (Some(folder), Some(fd)) = (&self.folder, self.fd)
            && let Some(info) = fdinfo::read_in(folder, fd)
        {
            let reading = Reading::Written(certain(fd, info));
            return Ok((reading, Some(Arc::clone(folder))));
        }
        let pid = self.id.pid;
        let folder = ProcessFolder::open(proc, pid).map(Arc::new);
        let written = self.search(proc);
        // Checked afterwards: if the pid still has the same start time, all reads above were of this process.
        if process::identity(proc, pid)? != Some(self.id) {
            return Ok((Reading::Gone, None));
        }
        let reading = written?.map_or(Reading::NotOpen, Reading::Written);
        Ok((reading, folder))
    }

    fn search(&self, proc: &Path) -> Result<Option<fdinfo::Found>, ProgressError> {
        if let Some(fd) = self.fd
            && let Some(info) = fdinfo::read(proc, self.id.pid, fd)?
        {
            return Ok(Some(certain(fd, info)));
        }
        fdinfo::destination(proc, self.id.pid, &self.destination)
    }
}

fn certain(fd: Fd, info: FdInfo) -> fdinfo::Found {
    fdinfo::Found {
        fd,
        position: info.position,
        sure: true,
    }
}
