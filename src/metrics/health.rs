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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::liveness::{Reason, TaskHandle};
    use crate::metrics::tests::watched;

    fn task(watched: &Watched, role: Role, state: TaskState) -> TaskHandle {
        let task = watched.liveness.task(role, None);
        task.does(state);
        task
    }

    fn connected() -> TaskState {
        TaskState::Connected("broker".to_owned())
    }

    #[test]
    fn a_queue_is_served_or_left_to_cinder_volume_on_purpose() {
        let watched = watched();
        let _intake = task(&watched, Role::Intake, connected());
        let _replies = task(&watched, Role::Replies, connected());
        assert!(health(&watched).is_err(), "no task serves the queue");
        let queue = watched.liveness.task(Role::Queue("q".to_owned()), None);
        let cause = || "x".to_owned();
        for (state, healthy) in [
            (TaskState::Starting, false),
            (TaskState::Serving, true),
            (TaskState::Waiting(cause()), true),
            (TaskState::Aside(Reason::Backlog, cause()), true),
            (TaskState::Refused(cause()), false),
        ] {
            queue.does(state.clone());
            assert_eq!(health(&watched).is_ok(), healthy, "{state:?}");
        }
    }

    #[test]
    fn both_connections_are_needed() {
        let watched = watched();
        let _queue = task(&watched, Role::Queue("q".to_owned()), TaskState::Serving);
        let intake = task(&watched, Role::Intake, connected());
        let replies = task(&watched, Role::Replies, connected());
        assert!(health(&watched).is_ok());
        for connection in [&intake, &replies] {
            let cause = "it has gone".to_owned();
            connection.does(TaskState::Disconnected("broker".to_owned(), cause));
            let line = health(&watched).unwrap_err();
            assert!(line.contains("it has gone"), "{line}");
            connection.does(connected());
            assert!(health(&watched).is_ok());
        }
    }

    #[test]
    fn in_mode_direct_the_own_topics_count_and_beside_cinder_volume_they_do_not() {
        let mut watched = watched();
        let _intake = task(&watched, Role::Intake, connected());
        let _replies = task(&watched, Role::Replies, connected());
        let _queue = task(&watched, Role::Queue("q".to_owned()), TaskState::Serving);
        assert!(health(&watched).is_ok());
        watched.queues.clear();
        assert!(health(&watched).is_err(), "no connection for own topics");
        let _own_topics = task(&watched, Role::OwnTopics, connected());
        assert!(health(&watched).is_err(), "no task serves the topic");
        let topic = Role::OwnTopic("t".to_owned());
        let _topic = task(&watched, topic, TaskState::Serving);
        assert!(health(&watched).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_task_and_a_blocked_broker_are_reported() {
        let watched = watched();
        let blocked = Arc::new(AtomicBool::new(true));
        let role = Role::Queue("q".to_owned());
        let _queue = watched.liveness.task(role, Some(Arc::clone(&blocked)));
        tokio::time::advance(Duration::from_secs(2)).await;
        let line = health(&watched).unwrap_err();
        assert!(line.starts_with("the broker is short of memory"), "{line}");
        blocked.store(false, Ordering::Relaxed);
        tokio::time::advance(Duration::from_secs(2)).await;
        let line = health(&watched).unwrap_err();
        assert!(line.starts_with(r#"Queue("q") does not move"#), "{line}");
    }
}
