//! What becomes of runs, machines and data when `agentvm standalone` ends, in order or not.
//!
//! One test at a time: each has a whole host of its own, and emulated machines take all the processors there are.

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

/// Held by the test whose turn it is.
async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}
