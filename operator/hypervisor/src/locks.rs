//! One lock for each machine: two calls for the same name take turns, others don't wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// Locks by machine name.
#[derive(Debug, Default)]
pub struct Locks(Mutex<HashMap<String, Arc<Mutex<()>>>>);

impl Locks {
    /// Runs `job` while no other call works on `name`.
    pub fn with<T>(&self, name: &str, job: impl FnOnce() -> T) -> T {
        self.with_or(name, || {}, job)
    }

    /// Like [`Self::with`]; if another call works on `name`, `held` runs before the wait.
    pub fn with_or<T>(&self, name: &str, held: impl FnOnce(), job: impl FnOnce() -> T) -> T {
        let lock = Arc::clone(lock(&self.0).entry(name.to_owned()).or_default());
        let done = {
            let _turn = match lock.try_lock() {
                Ok(turn) => turn,
                Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    held();
                    self::lock(&lock)
                }
            };
            job()
        };
        let mut all = self::lock(&self.0);
        // Only the table and this function hold it: no call waits, so the entry need not stay.
        if Arc::strong_count(&lock) == 2 {
            all.remove(name);
        }
        done
    }
}

/// Nothing here is left half done by a panic: the data behind a lock is only ever replaced whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn who_has_to_wait_can_make_the_other_end() {
        let locks = Locks::default();
        let (end, ended) = channel();
        let (begun, has_begun) = channel();
        std::thread::scope(|scope| {
            let locks = &locks;
            scope.spawn(move || {
                locks.with("a", || {
                    begun.send(()).unwrap();
                    ended.recv().unwrap()
                })
            });
            has_begun.recv().unwrap();
            assert!(locks.with_or("a", || end.send(true).unwrap(), || true));
            assert!(locks.with_or("a", || unreachable!(), || true));
        });
    }

    #[test]
    fn the_same_name_waits_another_does_not_and_nothing_is_kept() {
        let locks = Locks::default();
        let (inside, was_inside) = channel();
        std::thread::scope(|scope| {
            locks.with("a", || {
                let waiting = scope.spawn(|| locks.with("a", || inside.send(()).unwrap()));
                locks.with("b", || {});
                assert!(was_inside.try_recv().is_err() && !waiting.is_finished());
            });
        });
        assert!(was_inside.try_recv().is_ok());
        assert!(lock(&locks.0).is_empty());
    }
}
