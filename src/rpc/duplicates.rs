//! The filter against answering one call twice.

use std::collections::VecDeque;

/// How many calls are remembered (`DUP_MSG_CHECK_SIZE` in `oslo_messaging/_drivers/amqp.py`).
const REMEMBERED: usize = 16;

/// The unique ids of the last calls that were taken here.
///
/// The broker delivers a message again if it did not get the acknowledgement, so oslo.messaging drops
/// a message that bears the `_unique_id` of one of the last sixteen. A call that was taken is answered,
/// even if the broker does not know and delivers it again. Only calls that are answered here are
/// remembered, not messages that are handed over: cinder-volume has a filter of its own.
#[derive(Debug, Default)]
pub struct Duplicates {
    last: VecDeque<String>,
}

impl Duplicates {
    /// Whether no call with this id was taken lately; remembers it, and forgets the oldest when
    /// there are too many. A call without an id is always new.
    pub fn is_new(&mut self, unique_id: Option<&str>) -> bool {
        let Some(id) = unique_id else { return true };
        if self.last.iter().any(|seen| seen == id) {
            return false;
        }
        if self.last.len() == REMEMBERED {
            self.last.pop_front();
        }
        self.last.push_back(id.to_owned());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_new_once() {
        let mut duplicates = Duplicates::default();
        assert!(duplicates.is_new(Some("a")));
        assert!(!duplicates.is_new(Some("a")));
        assert!(duplicates.is_new(Some("b")));
        assert!(!duplicates.is_new(Some("a")));
    }

    #[test]
    fn calls_without_an_id_are_always_new() {
        let mut duplicates = Duplicates::default();
        assert!(duplicates.is_new(None));
        assert!(duplicates.is_new(None));
        assert!(duplicates.last.is_empty());
    }

    #[test]
    fn the_seventeenth_pushes_the_first_out() {
        let mut duplicates = Duplicates::default();
        for id in 0..16 {
            assert!(duplicates.is_new(Some(&id.to_string())));
        }
        // One that comes again neither moves nor costs a place.
        assert!(!duplicates.is_new(Some("0")));
        assert!(duplicates.is_new(Some("16")));
        assert!(duplicates.is_new(Some("0")), "forgotten");
        assert!(!duplicates.is_new(Some("2")));
    }
}
