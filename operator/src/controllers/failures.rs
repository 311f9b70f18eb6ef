//! Consecutive failures of each object. They decide how long its next reconcile waits.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use agentvm_core::backoff::Backoff;

/// Counts failed reconciles, by the UID of the object.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<String, u32>>);

impl Failures {
    /// Counts another failure. Returns the delay of the next try.
    pub fn note(&self, uid: &str) -> Duration {
        let mut counts = self.counts();
        let count = counts.entry(uid.to_owned()).or_default();
        *count = count.saturating_add(1);
        Backoff::RECONCILE.after(*count, uid)
    }

    /// A reconcile of this object succeeded.
    pub fn clear(&self, uid: &str) {
        self.counts().remove(uid);
    }

    /// Forgets objects that are gone.
    pub fn keep(&self, exists: impl Fn(&str) -> bool) {
        self.counts().retain(|uid, _| exists(uid));
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_count_and_a_success_starts_again() {
        let failures = Failures::default();
        let first = failures.note("a");
        assert!(failures.note("a") > first);
        assert!(failures.note("b") < Duration::from_secs(1), "each object has its own count");
        failures.clear("a");
        assert_eq!(failures.note("a"), first);
        failures.keep(|uid| uid == "b");
        assert_eq!(failures.note("a"), first);
    }
}
