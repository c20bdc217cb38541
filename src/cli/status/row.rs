//! The facts shown of one copy: the same for people and, with `--json`, for programs.

use std::time::{Instant, SystemTime};

use serde::Serialize;

use super::format;
use crate::progress::speed::{Speed, State};
use crate::progress::{CopyMethod, KnownBy, ProgressError, RunningCopy};
use crate::text;

/// One copy. An unknown fact is null.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    /// The id in the source's name.
    pub volume_id: Option<String>,
    /// The rule by which the volume is known: `name`, `path`, `record` or `request`.
    pub known_by: Option<&'static str>,
    /// The source.
    pub source: String,
    /// The destination.
    pub destination: String,
    /// Whole percents, 0 to 100.
    pub percent: Option<u8>,
    /// Bytes written.
    pub bytes: Option<u64>,
    /// Bytes to write in all.
    pub total_bytes: Option<u64>,
    /// Bytes a second, smoothed.
    pub bytes_per_second: Option<u64>,
    /// Seconds left at that rate.
    pub seconds_left: Option<u64>,
    /// When the copy began, in UTC.
    pub since: Option<String>,
    /// The process id of the dd, or of cinder-volume.
    pub pid: i32,
    /// `dd`, or `file` where cinder-volume copies through its own open files.
    pub kind: &'static str,
    /// Whether the copy moves, or how it ended.
    pub state: Option<State>,
    /// The error that keeps a fact of the copy unknown.
    pub unseen: Option<String>,
    /// How the copy is made. It distinguishes the copies of one process.
    #[serde(skip)]
    pub method: CopyMethod,
    /// When the copy was started. With the process id it identifies a dd.
    #[serde(skip)]
    pub started: Option<SystemTime>,
    /// Whether further scans would show nothing new.
    #[serde(skip)]
    pub settled: bool,
}

impl Row {
    pub(super) fn new(
        copy: &RunningCopy,
        template: &str,
        speed: Option<Speed>,
        at: Instant,
    ) -> Self {
        let state = speed.map(|speed| speed.state(copy.total, at));
        Self {
            volume_id: copy.volume_id(template),
            known_by: copy.known_by(template).map(KnownBy::name),
            source: text::harmless(&copy.source),
            destination: text::harmless(&copy.destination),
            percent: copy
                .position
                .zip(copy.total)
                .and_then(|(position, total)| format::percent(position, total)),
            bytes: copy.position,
            total_bytes: copy.total,
            bytes_per_second: speed.and_then(|speed| speed.bytes_per_second()),
            seconds_left: speed.and_then(|speed| speed.seconds_left(copy.total, at)),
            since: copy.since(),
            started: copy.started,
            pid: copy.pid,
            kind: copy.method.name(),
            method: copy.method,
            state,
            unseen: copy.trouble.as_ref().map(ProgressError::detail),
            settled: speed.is_none_or(|speed| speed.has_moved())
                || state.is_some_and(|state| state != State::Copying),
        }
    }
}
