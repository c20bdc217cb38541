//! Health: a status code for machines, a line for people.

use super::Watched;
use crate::liveness::{Role, TaskState};

/// The verdict: `Ok` when the daemon can answer calls, or leaves its queues to cinder-volume on purpose.
///
/// Both hold a line that says how the daemon stands.
pub(super) fn health(watched: &Watched) -> Result<String, String> {
    let liveness = &watched.liveness;
    let summary = liveness.summary();
    if let Some(stuck) = liveness.stuck() {
        return Err(format!("{:?} does not move; {summary}", stuck.role));
    }
    if liveness.blocked(|_| true) {
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
        .all(|keeper| liveness.is_connected(keeper));
    let ready = if direct {
        // Beside a cinder-volume the own topics are not the daemon's main work.
        watched
            .own_topics
            .iter()
            .all(|topic| liveness.doing(&Role::OwnTopic(topic.clone())) == Some(TaskState::Serving))
    } else {
        watched.queues.iter().all(|queue| {
            let doing = liveness.doing(&Role::Queue(queue.clone()));
            matches!(
                doing,
                Some(TaskState::Serving | TaskState::Waiting(_) | TaskState::Aside(..))
            )
        })
    };
    if connected && ready {
        Ok(summary)
    } else {
        Err(summary)
    }
}
