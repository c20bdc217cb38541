//! Whether the daemon can do its work, in a word for machines and a line for people.

use super::Watched;
use crate::liveness::{Doing, Role};

/// The verdict: `Ok` when it can answer calls, or leaves its queues to cinder-volume on purpose.
///
/// Either way a line that says how it stands.
pub(super) fn health(watched: &Watched) -> Result<String, String> {
    let vitals = &watched.vitals;
    let summary = vitals.summary();
    if let Some(stuck) = vitals.stuck() {
        return Err(format!("{:?} does not move; {summary}", stuck.role));
    }
    if vitals.blocked(|_| true) {
        return Err(format!(
            "the broker is short of memory or disk and takes nothing; {summary}"
        ));
    }
    let connected = [Role::Intake, Role::Replies]
        .iter()
        .all(|keeper| vitals.is_connected(keeper));
    let ready = watched.queues.iter().all(|queue| {
        let doing = vitals.doing(&Role::Queue(queue.clone()));
        matches!(
            doing,
            Some(Doing::Serving | Doing::Waiting(_) | Doing::Aside(..))
        )
    });
    if connected && ready {
        Ok(summary)
    } else {
        Err(summary)
    }
}
