//! Listens for the kernel's word on how processes end, only while a copy runs.

use std::path::Path;

use tokio::time::Instant;

use super::Inner;
use crate::progress::access;
use crate::progress::memory::copy_store::CopyRecord;
use crate::progress::proc::exits::ProcessEnds;

/// State of the listener for process ends.
#[derive(Debug, Default)]
pub(super) enum Hearing {
    /// No copy runs.
    #[default]
    Off,
    /// A copy runs.
    On(ProcessEnds),
    /// The kernel or a sandbox does not let us.
    Refused,
}

impl Inner {
    /// Takes in what the kernel has told of ends since the last time. Waits for nothing.
    pub(super) fn hear(&self) {
        let ends = match &*self.ends.lock() {
            Hearing::On(ends) => ends.take(),
            Hearing::Off | Hearing::Refused => return,
        };
        if !ends.is_empty() {
            self.history.lock().hear(&ends, Instant::now());
        }
    }

    /// Listens from now on, if a copy runs, or does not any more.
    pub(super) fn listen(&self) {
        let wanted = self.history.lock().records().any(CopyRecord::runs);
        let mut hearing = self.ends.lock();
        match &*hearing {
            // Exit events carry the host's pids. They fit only if `proc` is `/proc` in the host's pid namespace.
            Hearing::Off if wanted && self.roots.proc == Path::new("/proc") => {
                if access::is_apart(&self.roots.proc) {
                    *hearing = Hearing::Refused;
                    return;
                }
                *hearing = match ProcessEnds::listen() {
                    Ok(ends) => Hearing::On(ends),
                    Err(error) => {
                        tracing::debug!(%error, "the kernel does not tell how processes end");
                        Hearing::Refused
                    }
                };
            }
            Hearing::On(_) if !wanted => *hearing = Hearing::Off,
            _ => {}
        }
    }
}
