//! One lock for each machine: two calls for the same name take turns, others don't wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Locks by machine name.
#[derive(Debug, Default)]
pub struct Locks(Mutex<HashMap<String, Arc<Mutex<()>>>>);

impl Locks {
    /// Runs `job` while nobody else works on `name`.
    pub fn with<T>(&self, name: &str, job: impl FnOnce() -> T) -> T {
        let lock = Arc::clone(lock(&self.0).entry(name.to_owned()).or_default());
        let done = {
            let _turn = self::lock(&lock);
            job()
        };
        let mut all = self::lock(&self.0);
        // The table and this function hold it: nobody waits, so the entry needn't stay.
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
