//! When to try again: capped exponential backoff with jitter that is derived, not drawn.

use std::time::Duration;

/// Delays that double from `first` to `cap`, each spread by ±20 % according to `key`, so that
/// objects don't wake in step.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub first: Duration,
    pub cap: Duration,
}

impl Backoff {
    /// For reconciles that failed.
    pub const RECONCILE: Self =
        Self { first: Duration::from_millis(500), cap: Duration::from_mins(1) };
    /// For machines and goldens that could not be made.
    pub const MACHINE: Self = Self { first: Duration::from_secs(2), cap: Duration::from_mins(5) };

    /// The delay after the given number of failures in a row (1 for the first).
    pub fn after(&self, failures: u32, key: &str) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let plain = self.first.saturating_mul(1 << doublings).min(self.cap);
        let spread = key
            .bytes()
            .fold(failures % 256, |sum, b| sum.wrapping_mul(31).wrapping_add(u32::from(b)))
            % 401;
        plain * (800 + spread) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn delays_grow_stay_in_bounds_and_are_reproducible(failures in 0_u32..1_000_000,
            key in ".{0,20}") {
            let delay = Backoff::RECONCILE.after(failures, &key);
            prop_assert!(delay >= Backoff::RECONCILE.first * 8 / 10);
            prop_assert!(delay <= Backoff::RECONCILE.cap * 12 / 10);
            prop_assert_eq!(delay, Backoff::RECONCILE.after(failures, &key));
            prop_assert!(Backoff::RECONCILE.after(failures + 2, &key) * 2 >= delay);
        }
    }
}
