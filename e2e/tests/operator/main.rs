//! Runs, machines and data after the end of `agentvm standalone`, in order or not.
//!
//! One test at a time: each has a whole host, and emulated machines take all processors.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where something is not as it should be"
)]

mod ends;
mod kills;
mod numbered;
mod starts;

use tokio::sync::{Mutex, MutexGuard};

/// The test whose turn it is holds this lock.
async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}
