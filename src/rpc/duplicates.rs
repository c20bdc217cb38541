//! The filter against answering one call twice.

use std::collections::VecDeque;

/// How many calls are remembered (`DUP_MSG_CHECK_SIZE` in `oslo_messaging/_drivers/amqp.py`).
const REMEMBERED: usize = 16;

/// The unique ids of the last calls that were answered here.
///
/// The broker delivers a message again whose acknowledgement it did not get, so oslo.messaging
/// drops what bears the `_unique_id` of one of the last sixteen messages. Looking and remembering
/// are two steps, as in oslo's `_MsgIdCache`: a call that was put back unanswered must not be
/// taken for a duplicate when it returns. Only for what is answered here, never for what is
/// handed over: cinder-volume has a filter of its own.
#[derive(Debug, Default)]
pub struct Duplicates {
    last: VecDeque<String>,
}

impl Duplicates {
    /// Whether a call with this id was remembered. A call without an id never was.
    pub fn contains(&self, unique_id: Option<&str>) -> bool {
        unique_id.is_some_and(|id| self.last.iter().any(|seen| seen == id))
    }

    /// Remembers an answered call, and forgets the oldest when there are too many.
    pub fn remember(&mut self, unique_id: Option<&str>) {
        let Some(id) = unique_id else { return };
        if self.contains(unique_id) {
            return;
        }
        if self.last.len() == REMEMBERED {
            self.last.pop_front();
        }
        self.last.push_back(id.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_only_once_remembered() {
        let mut duplicates = Duplicates::default();
        assert!(!duplicates.contains(Some("a")));
        assert!(!duplicates.contains(Some("a")));
        duplicates.remember(Some("a"));
        assert!(duplicates.contains(Some("a")));
        assert!(!duplicates.contains(Some("b")));
    }

    #[test]
    fn calls_without_an_id_are_never_duplicates() {
        let mut duplicates = Duplicates::default();
        duplicates.remember(None);
        assert!(!duplicates.contains(None));
        assert!(duplicates.last.is_empty());
    }

    #[test]
    fn the_seventeenth_pushes_the_first_out() {
        let mut duplicates = Duplicates::default();
        for id in 0..16 {
            duplicates.remember(Some(&id.to_string()));
        }
        assert!(duplicates.contains(Some("0")));
        // Remembering one again neither moves it nor costs a place.
        duplicates.remember(Some("0"));
        assert!(duplicates.contains(Some("1")));
        duplicates.remember(Some("16"));
        assert!(!duplicates.contains(Some("0")));
        assert!(duplicates.contains(Some("1")));
        assert!(duplicates.contains(Some("16")));
    }
}
