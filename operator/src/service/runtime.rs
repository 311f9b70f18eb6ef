//! The runtime of a subcommand, and the signals that end it.

use std::{future::Future, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Runs a subcommand in a runtime of its own.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let done = runtime.block_on(work);
    // Blocking calls without a waiter (a libvirt that hangs) must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

/// SIGINT and SIGTERM. Signals are caught from the creation of this value on.
#[derive(Debug)]
pub struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl EndSignals {
    pub fn new() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(Failure::failed)?,
            terminate: signal(SignalKind::terminate()).map_err(Failure::failed)?,
        })
    }

    /// Waits for the first signal.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => tracing::info!("interrupted: ending in order"),
            _ = self.terminate.recv() => tracing::info!("terminated: ending in order"),
        }
    }
}
