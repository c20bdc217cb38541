//! The questions of the tests of this room, and helpers.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::fake_host::Fake;
use crate::progress::{Answer, CopyMode, Question, Tracker};

/// The size of every volume here.
pub(in crate::progress) const SIZE: u64 = 1000 << 20;

/// Source and destination of a migration of volume 1 by LVM.
pub(in crate::progress) const SOURCE: &str = "/dev/mapper/vg_two-volume--1";
pub(in crate::progress) const DESTINATION: &str = "/dev/mapper/vg_one-volume--1";

/// The question about volume 1, in mode HOST_BASED.
pub(in crate::progress) fn question() -> Question {
    about("1")
}

/// The same question while the volume is at `host`.
pub(in crate::progress) fn at_host(host: &str, question: Question) -> Question {
    Question {
        host: Some(host.to_owned()),
        ..question
    }
}

pub(in crate::progress) fn about(id: &str) -> Question {
    Question {
        mode: CopyMode::HostBased,
        ..Question::about(id, &format!("volume-{id}"), SIZE)
    }
}

/// The position at `percent`.
pub(in crate::progress) fn at(percent: u64) -> u64 {
    SIZE / 100 * percent
}

pub(in crate::progress) fn tracker(fake: &Fake) -> Tracker {
    Tracker::new(fake.roots(), Duration::from_millis(50))
}

pub(in crate::progress) async fn ask(tracker: &Tracker) -> Answer {
    tracker.answer(question()).await.unwrap()
}

/// Waits until the upkeep in the background has noticed something.
pub(in crate::progress) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Makes the entries of a state file older by `seconds`.
pub(in crate::progress) fn let_time_pass(state_file: &Path, seconds: u64) {
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
