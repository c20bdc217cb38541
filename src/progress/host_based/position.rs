//! One look at a dd that is known: its position, and that it is still the same process.
//!
//! It is made on a thread that may hang
//! ([`BoundedReads`](crate::progress::proc::bounded::BoundedReads)), though `fdinfo` takes no lock that could be held for
//! long. The kernel's `seq_show` (`fs/proc/fd.c`) takes two spin locks, `task_lock` and
//! that of the file table, and in between a reference to the open file (`get_file`), which it puts at the end
//! (`fput`). Whoever puts the last one releases the file: where dd closes it, or ends, just then, that is the reader,
//! before its `read` returns (`____fput` as task work, `__fput`, `might_sleep`). And to release a block device last is to
//! write out all that is not written yet (`bdev_release` in `block/bdev.c`: `sync_blockdev`, "could be several minute"),
//! for ever if the device is gone. It was seen to happen: with a process that closed a loop device again and
//! again, and a reader that did nothing else, in seven of 1,500 closes the reader did the writing, 4 ms for 12 MiB. The task
//! that answers runs on the thread that also hands operations over, which must not wait for a disk.
//!
//! The rest can sleep, too, if less: the look-up of the descriptor takes the directory's `i_rwsem`, and a first
//! look reads links and command lines, which go through the process's memory.

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
    /// The descriptor that writes, if there is no doubt.
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

    /// Reads how far it is: one small file as a rule.
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
        // Read afterwards: a pid that still has its start time had it all along.
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
