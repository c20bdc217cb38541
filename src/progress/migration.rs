//! Whether a copy was made by the volume's current migration or an earlier one, and what is remembered to tell that:
//! one rule for copies by dd and through open files. Pure.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use super::Question;
use super::proc::process::{self, Ticks};

/// How long after the end of a copy, or after a call that confirmed it, a migrating volume still counts as in the same
/// migration: cinder first detaches both ends, and deletes the old volume.
const COMPLETING: Duration = Duration::from_secs(600);

/// How long a copy that is over and was never asked about is remembered. It is of use until its migration is complete,
/// which may take longer than [`COMPLETING`].
pub(super) const UNASKED: Duration = Duration::from_secs(24 * 3600);

/// How far the clocks of this node and of the writer of the volume's row may differ. It includes the second that the
/// row's time, in whole seconds, loses.
const CLOCKS_APART: Duration = Duration::from_secs(2);

/// Seconds by which a request may seem later than it was: its age is cut to whole seconds.
const SLACK: Ticks = 1;

/// The rule that attributes a copy to a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, Serialize, Deserialize)]
#[strum(serialize_all = "snake_case")]
pub enum KnownBy {
    /// A name of the copy's source.
    Name,
    /// The path that a caller passed as `src_path`.
    Path,
    /// A number of the disk in the volume's record.
    Record,
    /// A request for a migration that fits this copy only.
    Request,
}

impl KnownBy {
    /// `name`, `path`, `record` or `request`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// What is remembered of the migration that made a copy, or a wipe after one. All times are wall clock, because they
/// are saved.
#[derive(Debug, Clone, Default, PartialEq, Hash, Serialize, Deserialize)]
pub(super) struct MigrationNotes {
    /// The volume to which this copy was attributed.
    pub volume: Option<String>,
    /// The rule that attributed it.
    #[serde(default)]
    pub known_by: Option<KnownBy>,
    /// `host` of the volume object at the first question. A migration that is complete changes it.
    #[serde(default)]
    pub host: Option<String>,
    /// Whether the volume was attached when it was asked for while this ran.
    #[serde(default)]
    pub attached: bool,
    /// `updated_at` of the volume object at the last question while this ran.
    #[serde(default)]
    pub updated_at: Option<SystemTime>,
    /// Whether the volume was asked for while this ran, and was migrating.
    #[serde(default)]
    pub confirmed: bool,
    /// When the copy was seen to be over; none while it runs.
    #[serde(default, alias = "ended_at")]
    pub ended: Option<SystemTime>,
    /// Last time this copy was confirmed to belong to the current migration: at its end, and when the volume was
    /// asked for soon after.
    #[serde(default, rename = "lately")]
    pub last_confirmed: Option<SystemTime>,
    /// Whether the volume was asked for after the end, when it was not migrating any more.
    #[serde(default, rename = "settled")]
    pub migration_over: bool,
}

impl MigrationNotes {
    /// Takes in what the volume object says while this runs.
    pub(super) fn goes_on(&mut self, question: &Question) {
        self.attached |= question.attached;
        self.confirmed |= question.migrating;
        self.updated_at = question.updated_at.or(self.updated_at);
        self.learn_host(question);
    }

    /// Takes in that this is over.
    pub(super) fn ends(&mut self) {
        self.ended = Some(SystemTime::now());
        self.last_confirmed = self.ended;
    }

    /// Takes in that this is over, and that the volume still migrates.
    pub(super) fn completes(&mut self, question: &Question) {
        self.last_confirmed = Some(SystemTime::now());
        self.learn_host(question);
    }

    fn learn_host(&mut self, question: &Question) {
        if self.host.is_none() {
            self.host.clone_from(&question.host);
        }
    }

    /// Whether a copy that is over was lately confirmed to belong to the current migration.
    pub(super) fn is_recent(&self) -> bool {
        self.last_confirmed.is_none_or(is_recent)
    }

    /// Whether its volume was asked about.
    pub(super) fn was_asked_about(&self) -> bool {
        self.volume.is_some() || self.host.is_some() || self.migration_over
    }

    /// Whether it can be forgotten: it has been over for long and was never asked about.
    pub(super) fn is_to_be_forgotten(&self) -> bool {
        let is_long_ago = |at: SystemTime| at.elapsed().is_ok_and(|passed| passed > UNASKED);
        !self.was_asked_about() && self.last_confirmed.is_some_and(is_long_ago)
    }
}

/// The evidence of which migration made a copy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence<'a> {
    /// What was noted of it.
    pub notes: &'a MigrationNotes,
    /// When it began, or was first seen.
    pub begun: Option<Ticks>,
    /// Whether it certainly ended before all was copied.
    pub cut_short: bool,
}

/// The migration that made a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MadeBy {
    /// The current one: nothing speaks for an earlier one.
    This,
    /// An earlier one.
    Earlier,
    /// Either.
    Either,
}

/// The migration that made a copy. `requested` is when the current one was asked for, if that request passed through
/// this daemon.
///
/// cinder changes a volume's host when a migration is complete, asks for each new one by a message, and writes
/// the volume's row when it begins one. The row changes for other reasons too, so a newer row decides only where the
/// copy was certainly cut short.
pub(super) fn made_by(
    evidence: Evidence<'_>,
    question: &Question,
    requested: Option<Ticks>,
) -> MadeBy {
    if !question.migrating {
        return MadeBy::This;
    }
    let notes = evidence.notes;
    let before_the_request = precedes(evidence.begun, requested);
    if notes.migration_over || question.has_moved_from(notes.host.as_deref()) || before_the_request
    {
        return MadeBy::Earlier;
    }
    match notes.ended.zip(question.updated_at) {
        Some((ended, updated))
            if updated > ended + CLOCKS_APART
                && updated <= SystemTime::now() + CLOCKS_APART
                && notes.updated_at != question.updated_at =>
        {
            if evidence.cut_short {
                MadeBy::Earlier
            } else {
                MadeBy::Either
            }
        }
        _ => MadeBy::This,
    }
}

/// Whether a copy of an unknown volume, or one never seen to move, may belong to the current migration. A row of the
/// volume written after the copy's end rules that out, complete or not.
pub(super) fn may_be_of_this(
    evidence: Evidence<'_>,
    question: &Question,
    requested: Option<Ticks>,
) -> bool {
    let since_the_request = evidence.begun.is_some() && requested.is_some();
    made_by(evidence, question, requested) == MadeBy::This
        && (evidence.notes.ended.is_none() || since_the_request || evidence.notes.is_recent())
}

/// Whether a copy that began at `begun` is older than the request.
pub(super) fn precedes(begun: Option<Ticks>, requested: Option<Ticks>) -> bool {
    begun
        .zip(earliest(requested))
        .is_some_and(|(begun, earliest)| begun < earliest)
}

/// The earliest start of a copy made by the request.
pub(super) fn earliest(requested: Option<Ticks>) -> Option<Ticks> {
    requested.map(|at| at.saturating_sub(SLACK * process::ticks_per_second()))
}

/// Whether `at` is less than [`COMPLETING`] ago. A time in the future counts as recent: the clock was set back.
fn is_recent(at: SystemTime) -> bool {
    at.elapsed().map_or(true, |passed| passed <= COMPLETING)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A copy that ended an hour ago.
    fn notes() -> MigrationNotes {
        MigrationNotes {
            ended: Some(SystemTime::now() - HOUR),
            host: Some("one".to_owned()),
            ..MigrationNotes::default()
        }
    }

    fn question() -> Question {
        Question {
            host: Some("one".to_owned()),
            ..Question::about("1", "volume-1", 1 << 30)
        }
    }

    #[test]
    fn what_is_known_of_the_volume_tells_migrations_apart() {
        let ended = notes();
        let evidence = |notes, cut_short| Evidence {
            notes,
            begun: Some(1_000_000),
            cut_short,
        };
        let (facts, cut) = (evidence(&ended, false), evidence(&ended, true));
        let updated = |ago: Duration| Question {
            updated_at: Some(SystemTime::now() - ago),
            ..question()
        };
        let then = updated(2 * HOUR);
        let since = updated(HOUR / 2);
        let at_once = updated(HOUR);
        let ahead = Question {
            updated_at: Some(SystemTime::now() + HOUR),
            ..question()
        };
        let seen = MigrationNotes {
            updated_at: since.updated_at,
            ..notes()
        };
        let seen = evidence(&seen, true);
        let at_rest_since = MigrationNotes {
            migration_over: true,
            ..notes()
        };
        let at_rest_since = evidence(&at_rest_since, false);
        let moved = Question {
            host: Some("two".to_owned()),
            ..question()
        };
        let at_rest = Question {
            migrating: false,
            ..moved.clone()
        };
        let running = MigrationNotes {
            ended: None,
            ..notes()
        };
        let running = evidence(&running, false);
        for (what, evidence, question, requested, expected) in [
            ("nothing", facts, question(), None, MadeBy::This),
            (
                "asked for before",
                facts,
                question(),
                Some(999_000),
                MadeBy::This,
            ),
            (
                "at the same moment",
                facts,
                question(),
                Some(1_000_050),
                MadeBy::This,
            ),
            (
                "asked for after",
                facts,
                question(),
                Some(1_001_000),
                MadeBy::Earlier,
            ),
            ("row older than the end", cut, then, None, MadeBy::This),
            ("row written at the end", cut, at_once, None, MadeBy::This),
            (
                "row newer, cut short",
                cut,
                since.clone(),
                None,
                MadeBy::Earlier,
            ),
            (
                "row newer, perhaps complete",
                facts,
                since.clone(),
                None,
                MadeBy::Either,
            ),
            (
                "row as it was while it ran",
                seen,
                since.clone(),
                None,
                MadeBy::This,
            ),
            ("row from the future", cut, ahead, None, MadeBy::This),
            ("it runs", running, since, None, MadeBy::This),
            (
                "seen at rest since",
                at_rest_since,
                question(),
                None,
                MadeBy::Earlier,
            ),
            ("moved", facts, moved, None, MadeBy::Earlier),
            ("at rest now", facts, at_rest, Some(1_001_000), MadeBy::This),
        ] {
            assert_eq!(made_by(evidence, &question, requested), expected, "{what}");
        }
    }

    #[test]
    fn a_newer_row_rules_out_a_copy_of_an_unknown_volume_complete_or_not() {
        let ended = MigrationNotes {
            last_confirmed: Some(SystemTime::now()),
            ..notes()
        };
        let updated = |ago: Duration| Question {
            updated_at: Some(SystemTime::now() - ago),
            ..question()
        };
        for cut_short in [false, true] {
            let evidence = Evidence {
                notes: &ended,
                begun: Some(1_000_000),
                cut_short,
            };
            assert!(may_be_of_this(evidence, &updated(2 * HOUR), None));
            assert!(!may_be_of_this(evidence, &updated(HOUR / 2), None));
        }
    }
}
