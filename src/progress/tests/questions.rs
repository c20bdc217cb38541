//! What the tests of this room ask, and of whom.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::fake_host::Fake;
use crate::progress::{Answer, CopyMode, Question, Tracker};

/// The size of every volume here.
pub(super) const SIZE: u64 = 1000 << 20;

/// Two ends of LVM's own migration of the volume 1.
pub(super) const SOURCE: &str = "/dev/mapper/vg_two-volume--1";
pub(super) const DESTINATION: &str = "/dev/mapper/vg_one-volume--1";

/// How far the volume 1 is, by dd.
pub(super) fn question() -> Question {
    about("1")
}

/// The same question while the volume is at `host`.
pub(super) fn at_host(host: &str, question: Question) -> Question {
    Question {
        host: Some(host.to_owned()),
        ..question
    }
}

pub(super) fn about(id: &str) -> Question {
    Question {
        mode: CopyMode::HostBased,
        ..Question::about(id, &format!("volume-{id}"), SIZE)
    }
}

/// The position of so many percent.
pub(super) fn at(percent: u64) -> u64 {
    SIZE / 100 * percent
}

pub(in crate::progress) fn tracker(fake: &Fake) -> Tracker {
    Tracker::new(fake.roots(), Duration::from_millis(50))
}

pub(in crate::progress) async fn ask(tracker: &Tracker) -> Answer {
    tracker.answer(question()).await.unwrap()
}

/// Waits for what the background upkeep has to notice first.
pub(super) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Makes what a state file holds so much older.
pub(super) fn let_time_pass(state_file: &Path, seconds: u64) {
    let saved = fs::read(state_file).unwrap();
    let mut saved: serde_json::Value = serde_json::from_slice(&saved).unwrap();
    for of in ["records", "files"] {
        for one in saved[of].as_array_mut().unwrap() {
            for moment in ["lately", "ended", "ended_at"] {
                if let Some(at) = one[moment]["secs_since_epoch"].as_u64() {
                    one[moment]["secs_since_epoch"] = (at - seconds).into();
                }
            }
            if let Some(begun) = one["begun"].as_u64() {
                one["begun"] = begun
                    .saturating_sub(seconds * procfs::ticks_per_second())
                    .into();
            }
        }
    }
    fs::write(state_file, saved.to_string()).unwrap();
}
