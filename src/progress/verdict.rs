//! The answer for a volume, by what was seen of its copies. Pure.
//!
//! The answer is 0 only where it is known that nothing was copied: an operator kills a migration for it. The first
//! row that fits counts. `host_based::decide` and `file_based::history` each find the copy that counts;
//! `tests::never_zero` tests both for each row. Only dd wipes, so the rows about wipes are tested with dd
//! alone; `host_based::decide` has the two about a wipe without a copy.
//!
//! A copy or a wipe is *confirmed* as the current migration's while it runs, when it ends, and whenever the volume is
//! asked for, still migrating, within ten minutes of the last time (`MigrationNotes::last_confirmed`).
//!
//! | the volume | seen | answer |
//! |---|---|---|
//! | migrating | its copy runs, and was there before the migration was asked for | unknown |
//! | any | its copy runs | percent; unknown where its position tells nothing |
//! | migrating | its copy is over, and neither the copy nor a wipe was confirmed in the last ten minutes, or a server has the volume since | unknown |
//! | any | its copy is over, and the old volume is wiped | 100 |
//! | migrating | its copy is over and may have been complete, and the volume's row was written since | unknown |
//! | any | its copy is over and had come to its end: its dd ended with 0 or, where the kernel does not tell, its pace says so | 100 |
//! | migrating | its copy is over, and a wipe ended early unasked: that may have been to delete the volume | unknown |
//! | any | its copy is over | the last position, below 100 where the kernel told that its dd failed |
//! | migrating | no copy, and a wipe: running, or seen running at a question, or complete; one was confirmed in the last ten minutes | 100 |
//! | migrating | no copy, and any other wipe: ended longer ago, or early and unasked | unknown |
//! | migrating | a copy that may be its own: of a disk that nothing names, or over before its position was seen | unknown |
//! | attached | nothing: nova and qemu copy it | unknown |
//! | migrating, in a cluster | nothing: a peer may copy it | unknown |
//! | migrating, in Ceph | nothing: cinder-volume may copy it by way of sockets | unknown |
//! | completing | nothing: the copy is made | unknown |
//! | any | nothing, and not every process could be looked at | an error; unknown where only open files could not be read, or where there is a driver |
//! | any | nothing | 0 |
//!
//! A copy or a wipe of an earlier migration counts as not seen: [`migration::made_by`]. So does one that was surely cut
//! short if the volume's row was written since.

use std::ops::RangeInclusive;

use super::memory::copy_store::CopyRecord;
use super::migration::{self, MadeBy};
use super::proc::process::Ticks;
use super::{Answer, Question};

/// How much smaller an encrypted volume is than its size: LUKS2's header takes 16 MiB.
const ENCRYPTION_TAKES: u64 = 32 << 20;

/// An answer, and its evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CopyVerdict {
    /// Something was seen.
    Seen(Answer),
    /// Nothing was seen: of no use if some process could not be read.
    Unseen(Answer),
}

/// What was seen of wipes of the old volume, after a copy.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WipesSeen {
    /// Whether any was confirmed in the last ten minutes.
    pub recent: bool,
    /// Whether one shows that the copy was completed.
    pub completing: bool,
    /// Whether one ended early and unasked: it may have been a deletion of the volume.
    pub doubtful: bool,
}

/// The answer where this copy is the one that counts. `requested` is when the migration was asked for, if that
/// request passed through this daemon.
pub(super) fn of_copy(
    copy: &impl CopyRecord,
    wipes: WipesSeen,
    question: &Question,
    requested: Option<Ticks>,
) -> CopyVerdict {
    let by_position = CopyVerdict::Seen(copy.by_position(question.size));
    let unknown = CopyVerdict::Unseen(Answer::Unknown);
    let complete = CopyVerdict::Seen(Answer::Percent(100));
    if copy.runs() {
        // A dd may outlive the cinder-volume that started it, and so its migration.
        let is_older = question.migrating && migration::precedes(copy.begun(), requested);
        return if is_older { unknown } else { by_position };
    }
    // A copy that is long over may be of this migration, which takes time to complete, or of an earlier one.
    let is_recent = copy.is_recent() || wipes.recent;
    // Attached now but not while this copy was made: nova copies the volume, and this copy is old.
    let attached_since = question.attached && !copy.notes().attached;
    let made_by = || migration::made_by(copy.evidence(question.size), question, requested);
    match () {
        () if question.migrating && (!is_recent || attached_since) => unknown,
        () if wipes.completing => complete,
        () if made_by() == MadeBy::Either => unknown,
        () if copy.reached(question.size) => complete,
        () if wipes.doubtful => unknown,
        () => by_position,
    }
}

/// The answer where no possible copy was seen: 0, unless another node makes it, it cannot be seen, or it is
/// made already.
pub(super) fn nothing_seen(question: &Question) -> Answer {
    let out_of_sight = question.migrating && (question.clustered || question.without_device);
    if question.attached || out_of_sight || question.completing {
        Answer::Unknown
    } else {
        Answer::Percent(0)
    }
}

/// Whether that many bytes may be the whole volume.
pub(super) fn may_be_all_of(bytes: Option<u64>, question: &Question) -> bool {
    bytes.is_none_or(|bytes| sizes_of(question).contains(&bytes))
}

/// How many bytes the whole volume may have.
pub(super) fn sizes_of(question: &Question) -> RangeInclusive<u64> {
    question.size.saturating_sub(ENCRYPTION_TAKES)..=question.size
}

/// `floor(position * 100 / size)`, at most 100.
pub(super) fn percent(position: u64, size: u64) -> Answer {
    let percent = u128::from(position) * 100 / u128::from(size.max(1));
    Answer::Percent(u8::try_from(percent.min(100)).unwrap_or(100))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percents_are_rounded_down_and_end_at_100() {
        let size = 1 << 30;
        assert_eq!(percent(0, size), Answer::Percent(0));
        assert_eq!(percent(size / 100, size), Answer::Percent(0));
        assert_eq!(percent(size / 100 + 1, size), Answer::Percent(1));
        assert_eq!(percent(size - 1, size), Answer::Percent(99));
        assert_eq!(percent(size, size), Answer::Percent(100));
        assert_eq!(percent(size + 1, size), Answer::Percent(100));
        assert_eq!(percent(u64::MAX, u64::MAX), Answer::Percent(100));
        assert_eq!(percent(u64::MAX - 1, u64::MAX), Answer::Percent(99));
    }

    proptest! {
        #[test]
        fn no_position_leads_out_of_0_to_100(position: u64, size: u64) {
            prop_assert!(matches!(percent(position, size), Answer::Percent(0..=100)));
        }
    }
}
