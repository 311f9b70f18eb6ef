//! Conditions and bounded texts: what every status is made of.
//!
//! A status is computed, compared with the old one, and written once or not at all: [`settle`] keeps the transition
//! times of what did not change, so that an equal status compares as equal.

use agentvm_crds::{Condition, ConditionStatus};
use jiff::Timestamp;

use crate::calendar;

/// The longest message of a condition, in bytes.
pub const MAX_MESSAGE: usize = 1024;

/// A condition decided now.
pub fn condition(
    type_: &str,
    status: ConditionStatus,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status,
        observed_generation: generation,
        last_transition_time: calendar::text(now),
        reason: reason.to_owned(),
        message: clip(message, MAX_MESSAGE),
    }
}

/// Keeps the transition time of every condition whose status did not change.
pub fn settle(old: &[Condition], mut new: Vec<Condition>) -> Vec<Condition> {
    for condition in &mut new {
        if let Some(before) = find(old, &condition.type_).filter(|b| b.status == condition.status) {
            condition.last_transition_time.clone_from(&before.last_transition_time);
        }
    }
    new
}

/// The condition of a type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Where something was cut.
const MARK: &str = " […]";

/// The beginning of a text, at most `max` bytes, with a mark where something was cut.
pub fn clip(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max.saturating_sub(MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MARK}", &text[..end])
}

/// The end of some bytes as text of at most `max` bytes; the flag says that something is missing before it.
///
/// Bytes that aren't UTF-8 become U+FFFD, and NUL does too: it can't stand in every client's output.
pub fn tail(bytes: &[u8], max: usize) -> (String, bool) {
    let start = bytes.len().saturating_sub(max);
    let text = String::from_utf8_lossy(&bytes[start..]).replace('\0', "\u{fffd}");
    // Replacement makes text longer than the bytes were: cut again, from the front.
    let mut from = text.len().saturating_sub(max);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let cut = start > 0 || from > 0;
    (text[from..].to_owned(), cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_transition_time_moves_only_with_the_status() {
        let old = vec![condition("Ready", ConditionStatus::False, "A", "a", Some(1), at(1))];
        let same = settle(
            &old,
            vec![condition("Ready", ConditionStatus::False, "B", "b", Some(2), at(9))],
        );
        assert_eq!(same[0].last_transition_time, old[0].last_transition_time);
        let other =
            settle(&old, vec![condition("Ready", ConditionStatus::True, "B", "b", Some(2), at(9))]);
        assert_ne!(other[0].last_transition_time, old[0].last_transition_time);
    }

    proptest! {
        #[test]
        fn texts_stay_within_their_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..300), max in 8_usize..100) {
            let (text, cut) = tail(&bytes, max);
            prop_assert!(text.len() <= max);
            prop_assert!(!text.contains('\0'));
            let whole = String::from_utf8_lossy(&bytes).replace('\0', "\u{fffd}");
            prop_assert!(cut || text == whole);
            prop_assert!(clip(&String::from_utf8_lossy(&bytes), max).len() <= max);
        }
    }
}
