//! One look at a known dd: its position, and that it is still the same process.

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
