//! How often messages come back to Q from our hands, and when that is enough.
//!
//! **Where trouble comes from.** A quorum queue counts how often a message was given back and drops
//! it without a word beyond the limit (20 by default from RabbitMQ 4.0). A message that we cannot
//! hand over comes back each time that we stand aside, and so does all that was in hand with it.
//! Where cinder-volume takes from Q meanwhile it comes to us once; where it is busy, again and again.
//!
//! **The rule.** After a spell of serving that gave messages back and moved none, the next one takes
//! a single message into its hands. After two of these in a row, or once a message was given back
//! for the third time, Q is left to cinder-volume until it has taken all that waits. A classic queue does not count:
//! there only the spells do.

use lapin::message::Delivery;
use lapin::types::AMQPValue;

/// A message that has come back so often is handled alone.
pub(super) const OFTEN: u64 = 2;

/// Spells in a row that may give messages back and move none.
const IN_VAIN: u32 = 2;

/// The header in which a quorum queue says how often a message came back (RabbitMQ 3.8 and newer).
const COUNT: &str = "x-delivery-count";

/// How often a message came back to its queue, as far as the broker says so.
pub(super) fn redeliveries(delivery: &Delivery) -> u64 {
    let headers = delivery.properties.headers().as_ref();
    let count = headers.and_then(|headers| headers.inner().get(COUNT));
    let count = match count {
        Some(AMQPValue::LongLongInt(count)) => u64::try_from(*count).ok(),
        Some(AMQPValue::LongInt(count)) => u64::try_from(*count).ok(),
        Some(AMQPValue::ShortInt(count)) => u64::try_from(*count).ok(),
        Some(AMQPValue::ShortShortInt(count)) => u64::try_from(*count).ok(),
        Some(AMQPValue::ShortShortUInt(count)) => Some((*count).into()),
        Some(AMQPValue::ShortUInt(count)) => Some((*count).into()),
        Some(AMQPValue::LongUInt(count)) => Some((*count).into()),
        _ => None,
    };
    count.unwrap_or_default()
}

/// What is known of messages that came back to Q. Outlives spells and connections.
#[derive(Debug, Default)]
pub(super) struct Redeliveries {
    spell: CurrentSpell,
    /// Spells in a row that gave messages back and moved none.
    in_vain: u32,
    /// The next spell takes a single message into its hands.
    careful: bool,
    /// Q is left to cinder-volume until it is empty.
    left: bool,
}

/// The spell of serving that goes on.
#[derive(Debug, Default)]
struct CurrentSpell {
    goes_on: bool,
    has_moved: bool,
    in_hand: usize,
    /// The most often that one in hand had come back before.
    most: u64,
}

/// What a spell has given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GivenBack {
    /// How many messages.
    pub(super) messages: usize,
    /// The most often that one of them had come back before.
    pub(super) most: u64,
}

impl GivenBack {
    /// Whether one of them has come back too often.
    pub(super) fn is_often(self) -> bool {
        self.most >= OFTEN
    }
}

impl Redeliveries {
    /// Q is consumed from now on.
    pub(super) fn begin(&mut self) {
        if self.spell.goes_on {
            // It was dropped where it stood: the connection had ended.
            self.end(true);
        }
        self.spell = CurrentSpell {
            goes_on: true,
            ..CurrentSpell::default()
        };
    }

    /// These are in hand now.
    pub(super) fn hold<'a>(&mut self, in_hand: impl Iterator<Item = &'a Delivery>) {
        (self.spell.in_hand, self.spell.most) = (0, 0);
        for delivery in in_hand {
            self.spell.in_hand += 1;
            self.spell.most = self.spell.most.max(redeliveries(delivery));
        }
    }

    /// Something was taken off Q for good.
    pub(super) fn moved(&mut self) {
        self.spell.has_moved = true;
    }

    /// Whether the spell has taken something off Q for good.
    pub(super) fn has_moved(&self) -> bool {
        self.spell.has_moved
    }

    /// The spell goes on and nothing is amiss.
    pub(super) fn calm(&mut self) {
        self.in_vain = 0;
        self.careful = false;
    }

    /// What is in hand must be left to cinder-volume, however often it came back.
    pub(super) fn leave(&mut self) {
        self.left = true;
    }

    /// Q is not consumed any more; what was in hand is given back. `broken`: more may have been on its
    /// way to us.
    pub(super) fn end(&mut self, broken: bool) -> GivenBack {
        let spell = std::mem::take(&mut self.spell);
        if spell.has_moved {
            self.in_vain = 0;
            self.careful = false;
        } else if spell.in_hand > 0 || broken {
            self.in_vain += 1;
            self.careful |= spell.in_hand > 0;
        }
        let given_back = GivenBack {
            messages: spell.in_hand,
            most: spell.most,
        };
        self.left |= given_back.is_often() || self.in_vain >= IN_VAIN;
        given_back
    }

    /// Whether a single message may be in hand at once.
    pub(super) fn is_careful(&self) -> bool {
        self.careful
    }

    /// Whether Q is left to cinder-volume until it is empty.
    pub(super) fn is_left(&self) -> bool {
        self.left
    }

    /// Q was seen empty: cinder-volume has taken what came back.
    pub(super) fn taken(&mut self) {
        if std::mem::take(&mut self.left) {
            self.in_vain = 0;
            self.careful = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;
    use lapin::types::FieldTable;

    use super::*;

    fn delivery(count: Option<AMQPValue>) -> Delivery {
        let mut delivery = Delivery::mock(1, "".into(), "q".into(), false, vec![]);
        if let Some(count) = count {
            let mut headers = FieldTable::default();
            headers.insert(COUNT.into(), count);
            delivery.properties = BasicProperties::default().with_headers(headers);
        }
        delivery
    }

    fn spell(redeliveries: &mut Redeliveries, counts: &[i64], moved: bool) -> GivenBack {
        redeliveries.begin();
        let in_hand: Vec<Delivery> = counts
            .iter()
            .map(|count| delivery(Some(AMQPValue::LongLongInt(*count))))
            .collect();
        redeliveries.hold(in_hand.iter());
        if moved {
            redeliveries.moved();
        }
        redeliveries.end(false)
    }

    #[test]
    fn the_count_is_read_whatever_its_width_and_never_believed_to_be_negative() {
        for (count, expected) in [
            (None, 0),
            (Some(AMQPValue::LongLongInt(3)), 3),
            (Some(AMQPValue::LongInt(2)), 2),
            (Some(AMQPValue::ShortShortUInt(1)), 1),
            (Some(AMQPValue::LongLongInt(-1)), 0),
            (Some(AMQPValue::Boolean(true)), 0),
        ] {
            assert_eq!(
                redeliveries(&delivery(count.clone())),
                expected,
                "{count:?}"
            );
        }
    }

    #[test]
    fn a_spell_in_vain_makes_the_next_one_careful_and_two_leave_the_queue_alone() {
        let mut known = Redeliveries::default();
        spell(&mut known, &[0, 0], false);
        assert!(known.is_careful() && !known.is_left());
        spell(&mut known, &[1], false);
        assert!(known.is_left());
        known.taken();
        assert!(known.is_careful() && !known.is_left());
        spell(&mut known, &[], true);
        assert!(!known.is_careful());
    }

    #[test]
    fn a_spell_that_moves_something_starts_over() {
        let mut known = Redeliveries::default();
        for _ in 0..10 {
            spell(&mut known, &[1, 0], true);
            assert!(!known.is_careful() && !known.is_left());
        }
    }

    #[test]
    fn what_came_back_twice_and_comes_back_again_leaves_the_queue_alone() {
        let mut known = Redeliveries::default();
        let given_back = spell(&mut known, &[0, 2, 1], true);
        assert_eq!(
            given_back,
            GivenBack {
                messages: 3,
                most: 2
            }
        );
        assert!(known.is_left());
    }

    #[test]
    fn a_spell_that_was_dropped_counts_when_the_next_one_begins() {
        let mut known = Redeliveries::default();
        known.begin();
        known.hold([delivery(None)].iter());
        known.begin();
        assert!(known.is_careful());
    }

    #[test]
    fn connections_that_end_at_once_with_nothing_in_hand_leave_the_queue_alone_too() {
        let mut known = Redeliveries::default();
        for _ in 0..2 {
            assert!(!known.is_left() && !known.is_careful());
            known.begin();
            known.end(true);
        }
        assert!(known.is_left());
        known.taken();
        known.begin();
        known.calm();
        known.end(true);
        assert!(!known.is_left());
    }
}
