//! Waits on conditions. A test never sleeps for a fixed time: it waits until something is so.

use std::time::{Duration, Instant};

/// The longest wait of a test. Only a broken product comes near it.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// The time between two looks.
const TICK: Duration = Duration::from_millis(5);

/// Whether the condition becomes true within this time.
pub fn holds_within(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(TICK);
    }
}

/// Like [`holds_within`], in a task.
pub async fn holds_within_async(patience: Duration, mut holds: impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if holds().await {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Returns when the condition is true, and ends the test when it never is.
pub fn wait_until(what: &str, holds: impl FnMut() -> bool) {
    assert!(holds_within(PATIENCE, holds), "{what}: not within {PATIENCE:?}");
}

/// Like [`wait_until`], in a task.
pub async fn wait_until_async(what: &str, holds: impl AsyncFnMut() -> bool) {
    assert!(holds_within_async(PATIENCE, holds).await, "{what}: not within {PATIENCE:?}");
}

/// Returns the value as soon as it is there, and ends the test when it never is.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    wait_until(what, || {
        found = look();
        found.is_some()
    });
    found.unwrap_or_else(|| panic!("{what}: not within {PATIENCE:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_looked_at_until_it_holds_and_once_at_least() {
        let mut looks = 0;
        assert!(holds_within(PATIENCE, || {
            looks += 1;
            looks == 3
        }));
        assert!(holds_within(Duration::ZERO, || true));
        assert!(!holds_within(Duration::ZERO, || false));
        let mut values = [None, Some(7)].into_iter();
        assert_eq!(wait_for("a number", || values.next().flatten()), 7);
    }
}
