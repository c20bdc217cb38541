//! Since which process id a scan looks for new processes, however soon after the last one it comes.
//!
//! The kernel gives out the id of a new process before its folder is under /proc: `copy_process` of `kernel/fork.c`
//! calls `alloc_pid`, which moves the last id in `/proc/loadavg`, and `attach_pid` much later. In between it may
//! lose the processor, or wait for a change of cgroups. So a scan finds nothing under an id that was given out just
//! before it, and the id is looked at again until it is [`LATE_FOLDER`] old.

use std::time::Duration;

use tokio::time::Instant;

use crate::progress::proc::process::Pid;

/// How late a process's folder may appear after its id was given out. Mostly it is microseconds; one that takes
/// longer than this is found when all processes are listed, up to ten minutes later.
pub(super) const LATE_FOLDER: Duration = Duration::from_millis(500);

/// So many ids may be given out while all processes are listed.
const MEANWHILE: Pid = 256;

/// The last id given out at some moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct IdMark {
    pub(super) last: Pid,
    /// When that was read, or a little later: the ids up to `last` are at least as old.
    at: Instant,
}

impl IdMark {
    /// To be called when `last` was read just now.
    pub(super) fn now(last: Pid) -> Self {
        Self {
            last,
            at: Instant::now(),
        }
    }
}

/// How far the kernel had come in giving out process ids.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    /// A scan has looked at all ids up to this one when they were [`LATE_FOLDER`] old. There is none where the first
    /// scan was a moment ago.
    before: Option<Pid>,
    /// The next one that may be said of.
    next: IdMark,
    /// The last id at the last scan.
    last: Pid,
    /// When all processes were listed.
    listed: Instant,
}

impl Cursor {
    /// After a scan that read `mark` first, and then looked at all ids up to it that those before had left.
    pub(super) fn after(previous: Option<Self>, mark: IdMark, listed: Instant) -> Self {
        let first = Self {
            before: None,
            next: mark,
            last: mark.last,
            listed,
        };
        let mut cursor = previous.map_or(first, |previous| Self {
            last: mark.last,
            listed,
            ..previous
        });
        if mark.at.saturating_duration_since(cursor.next.at) >= LATE_FOLDER {
            cursor.before = Some(cursor.next.last);
            cursor.next = mark;
        }
        cursor
    }

    /// After which id the next scan looks for new processes; `None` where it has to list all.
    pub(super) fn before(&self) -> Option<Pid> {
        self.before
    }

    /// Whether this id may have been given out since, where `mark` was read shortly before. Ids may have begun anew.
    pub(super) fn is_past(&self, pid: Pid, mark: IdMark) -> bool {
        let newest = mark.last.saturating_add(MEANWHILE);
        self.before.is_some_and(|before| {
            let (is_later, is_earlier) = (before < pid, pid <= newest);
            if before <= mark.last {
                is_later && is_earlier
            } else {
                is_later || is_earlier
            }
        })
    }

    /// The last id at the last scan.
    pub(super) fn last(&self) -> Pid {
        self.last
    }

    /// When all processes were listed.
    pub(super) fn listed(&self) -> Instant {
        self.listed
    }
}
