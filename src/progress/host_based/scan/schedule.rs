//! Which processes a scan looks at, without going through all of them: a node has thousands, of which a scan
//! looks at a few.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use tokio::time::Instant;

use crate::progress::proc::process::Pid;

/// When each process is due.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// Those looked at in every scan.
    always: HashSet<Pid>,
    /// The others, the next one first. Outdated entries stay in the heap until their time; `take_due` drops them.
    later: BinaryHeap<Reverse<(Instant, Pid)>>,
}

impl Schedule {
    /// Looks at it at that time, or, without one, in every scan.
    pub(super) fn arrange(&mut self, pid: Pid, due: Option<Instant>) {
        match due {
            None => {
                self.always.insert(pid);
            }
            Some(due) => {
                self.always.remove(&pid);
                self.later.push(Reverse((due, pid)));
            }
        }
    }

    /// Looks at it no more.
    pub(super) fn forget(&mut self, pid: Pid) {
        self.always.remove(&pid);
    }

    /// Those looked at in every scan.
    pub(super) fn always(&self) -> impl Iterator<Item = Pid> {
        self.always.iter().copied()
    }

    /// Who is due now; to be arranged anew. `is_valid` says whether that is still what a process is arranged for.
    pub(super) fn take_due(
        &mut self,
        now: Instant,
        is_valid: impl Fn(Pid, Instant) -> bool,
    ) -> Vec<Pid> {
        let mut due: Vec<Pid> = self.always().collect();
        let mut last = None;
        while let Some(&Reverse((at, pid))) = self.later.peek()
            && at <= now
        {
            self.later.pop();
            // Arranged twice for the same time, it is looked at once: equals follow each other.
            if last.replace((at, pid)) != Some((at, pid)) && is_valid(pid, at) {
                due.push(pid);
            }
        }
        due
    }
}
