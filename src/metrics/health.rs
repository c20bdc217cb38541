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
    let direct = watched.queues.is_empty();
    let intake = if direct {
        Role::OwnTopics
    } else {
        Role::Intake
    };
    let connected = [intake, Role::Replies]
        .iter()
        .all(|keeper| vitals.is_connected(keeper));
    let ready = if direct {
        // Beside a cinder-volume these are not what the daemon is there for.
        watched
            .own_topics
            .iter()
            .all(|topic| vitals.doing(&Role::OwnTopic(topic.clone())) == Some(Doing::Serving))
    } else {
        watched.queues.iter().all(|queue| {
            let doing = vitals.doing(&Role::Queue(queue.clone()));
            matches!(
                doing,
                Some(Doing::Serving | Doing::Waiting(_) | Doing::Aside(..))
            )
        })
    };
    if connected && ready {
        Ok(summary)
    } else {
        Err(summary)
    }
}
