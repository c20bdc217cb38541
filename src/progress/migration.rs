//! Whether a copy that is over was made by the migration that goes on: one rule for both ways of copying.
//! Pure.

use std::time::{Duration, SystemTime};

use super::Question;
use super::proc::process::{self, Ticks};

/// How long after its copy a volume may still count as migrating without anybody saying so: cinder
/// detaches both ends first, and deletes the old volume.
const COMPLETING: Duration = Duration::from_secs(600);

/// How far the clocks of this node and of whoever changed the volume's row may be apart, and what a moment
/// written in whole seconds loses.
const CLOCKS_APART: Duration = Duration::from_secs(2);

/// Seconds that two readings of one moment may differ by here.
const SLACK: Ticks = 1;

/// Faster than any storage copies, in bytes a second: what a copy of unknown pace cannot have done unseen.
const FASTEST: f64 = (16_u64 << 30) as f64;

/// How much faster than ever before a copy may have been in its last moments.
const MARGIN: f64 = 4.0;

/// What is remembered of a copy, or of a wipe after one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    /// When it began, or was first seen.
    pub begun: Option<Ticks>,
    /// When it was seen to be over; none while it runs.
    pub ended: Option<SystemTime>,
    /// Whether it surely ended before it was through.
    pub cut_short: bool,
    /// Whether the volume was asked for afterwards, when no migration went on.
    pub settled: bool,
    /// Where the volume was then.
    pub host: Option<&'a str>,
    /// When the volume's row was last changed, as told while the copy ran.
    pub updated_at: Option<SystemTime>,
}

/// Which migration it was made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MadeBy {
    /// The one that goes on, for all that is known.
    This,
    /// One before it.
    Earlier,
    /// One or the other.
    Either,
}

/// Tells which. `requested` is when this migration was asked for, if that passed here.
///
/// cinder changes a volume's host when a migration is through, asks for each new one by a message, and writes
/// into the volume's row when it begins one. The row changes for other reasons, too, so it decides only where
/// the copy surely was not completed.
pub(super) fn made_by(facts: Facts<'_>, question: &Question, requested: Option<Ticks>) -> MadeBy {
    if !question.migrating {
        return MadeBy::This;
    }
    let before_the_request = facts
        .begun
        .zip(requested)
        .is_some_and(|(begun, requested)| precedes(begun, requested));
    if facts.settled || question.has_moved_from(facts.host) || before_the_request {
        return MadeBy::Earlier;
    }
    match facts.ended.zip(question.updated_at) {
        Some((ended, updated))
            if updated > ended + CLOCKS_APART
                && updated <= SystemTime::now() + CLOCKS_APART
                && facts.updated_at != question.updated_at =>
        {
            if facts.cut_short {
                MadeBy::Earlier
            } else {
                MadeBy::Either
            }
        }
        _ => MadeBy::This,
    }
}

/// Whether a copy of which nobody knows whose it is may be of the migration that goes on. `lately` is when it
/// last may have been.
pub(super) fn may_be_of_this(
    facts: Facts<'_>,
    lately: Option<SystemTime>,
    question: &Question,
    requested: Option<Ticks>,
) -> bool {
    // That of a volume of which nothing was said counts as cut short: it decides whose it was, not how far.
    let facts = Facts {
        cut_short: true,
        ..facts
    };
    let since_the_request = facts.begun.is_some() && requested.is_some();
    made_by(facts, question, requested) == MadeBy::This
        && (facts.ended.is_none() || since_the_request || lately.is_none_or(is_recent))
}

/// Whether what began then was there before the request.
pub(super) fn precedes(begun: Ticks, requested: Ticks) -> bool {
    begun + SLACK * process::ticks_per_second() < requested
}

/// Whether it is no longer ago than a migration takes to complete. A clock that was set back counts
/// as no time.
pub(super) fn is_recent(at: SystemTime) -> bool {
    at.elapsed().map_or(true, |passed| passed <= COMPLETING)
}

/// The furthest that a copy may have come that was last seen at `position`, was never faster than `pace`
/// bytes a second, and went on `unseen`.
pub(super) fn at_most(position: u64, pace: Option<f64>, unseen: Duration) -> u64 {
    let pace = pace.filter(|&pace| pace > 0.0);
    let pace = pace.map_or(FASTEST, |pace| (MARGIN * pace).min(FASTEST));
    // Rounded towards more; what is too large for 64 bits becomes the largest.
    position.saturating_add((pace * unseen.as_secs_f64()).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A copy that ended an hour ago.
    fn facts() -> Facts<'static> {
        Facts {
            begun: Some(1_000_000),
            ended: Some(SystemTime::now() - HOUR),
            cut_short: false,
            settled: false,
            host: Some("one"),
            updated_at: None,
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
        let cut = Facts {
            cut_short: true,
            ..facts()
        };
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
        let seen = Facts {
            updated_at: since.updated_at,
            ..cut
        };
        let settled = Facts {
            settled: true,
            ..facts()
        };
        let moved = Question {
            host: Some("two".to_owned()),
            ..question()
        };
        let at_rest = Question {
            migrating: false,
            ..moved.clone()
        };
        let running = Facts {
            ended: None,
            ..facts()
        };
        for (what, facts, question, requested, expected) in [
            ("nothing", facts(), question(), None, MadeBy::This),
            (
                "asked for before",
                facts(),
                question(),
                Some(999_000),
                MadeBy::This,
            ),
            (
                "at the same moment",
                facts(),
                question(),
                Some(1_000_050),
                MadeBy::This,
            ),
            (
                "asked for after",
                facts(),
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
                "row newer, perhaps through",
                facts(),
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
                settled,
                question(),
                None,
                MadeBy::Earlier,
            ),
            ("moved", facts(), moved, None, MadeBy::Earlier),
            (
                "at rest now",
                facts(),
                at_rest,
                Some(1_001_000),
                MadeBy::This,
            ),
        ] {
            assert_eq!(made_by(facts, &question, requested), expected, "{what}");
        }
    }

    #[test]
    fn what_went_on_unseen_for_long_may_have_been_completed() {
        let second = Duration::from_secs(1);
        let gib = 1 << 30;
        assert_eq!(at_most(24 * gib, None, second), 40 * gib);
        assert_eq!(at_most(24 * gib, Some(gib as f64), 5 * second), 44 * gib);
        assert_eq!(at_most(24 * gib, Some(0.0), second), 40 * gib);
        assert_eq!(at_most(24 * gib, None, Duration::ZERO), 24 * gib);
        assert_eq!(at_most(gib, None, Duration::MAX), u64::MAX);
    }
}
