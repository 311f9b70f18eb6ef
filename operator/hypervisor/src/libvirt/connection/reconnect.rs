//! A connection to libvirt that comes back: it is opened again after it broke, with pauses that
//! grow.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::{Duration, Instant};

use agentvm_types::report;
use virt::connect::Connect;

use crate::HvError;

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A connection that comes back.
pub struct Link {
    uri: String,
    open: Option<Connect>,
    backoff: Duration,
    not_before: Option<Instant>,
    last_error: String,
}

impl Link {
    pub fn new(uri: &str) -> Self {
        Self {
            uri: uri.to_owned(),
            open: None,
            backoff: BACKOFF_MIN,
            not_before: None,
            last_error: String::new(),
        }
    }

    pub fn with<T>(
        &mut self,
        job: impl FnOnce(&Connect) -> Result<T, HvError>,
    ) -> Result<T, HvError> {
        let result = job(self.connection()?);
        // A call that failed because the connection broke has libvirt's words; the caller needs
        // ours.
        match (result, self.is_alive()) {
            (Err(error), false) => {
                self.close();
                Err(HvError::Unavailable { uri: self.uri.clone(), detail: report(&error) })
            }
            (result, _) => result,
        }
    }

    fn connection(&mut self) -> Result<&Connect, HvError> {
        if !self.is_alive() {
            self.close();
            self.open()?;
        }
        self.open.as_ref().ok_or_else(|| self.unavailable())
    }

    fn is_alive(&self) -> bool {
        self.open.as_ref().is_some_and(|c| c.is_alive().unwrap_or(false))
    }

    fn unavailable(&self) -> HvError {
        HvError::Unavailable { uri: self.uri.clone(), detail: self.last_error.clone() }
    }

    /// Tries at most once per backoff; between tries the answer is the last error, at once.
    fn open(&mut self) -> Result<(), HvError> {
        if self.not_before.is_some_and(|at| Instant::now() < at) {
            return Err(self.unavailable());
        }
        match Connect::open(Some(&self.uri)) {
            Ok(connection) => {
                // A libvirtd that hangs is found out in 20 s; without this, never.
                if let Err(e) = connection.set_keep_alive(5, 3) {
                    tracing::debug!(error = %e, "libvirt has no keep-alive here");
                }
                self.open = Some(connection);
                self.backoff = BACKOFF_MIN;
                self.not_before = None;
                Ok(())
            }
            Err(e) => {
                e.message().clone_into(&mut self.last_error);
                self.not_before = Some(Instant::now() + self.backoff);
                self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
                Err(self.unavailable())
            }
        }
    }

    /// The binding panics when libvirt cannot close a connection, and this is called for broken
    /// connections.
    pub fn close(&mut self) {
        if let Some(connection) = self.open.take() {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(connection)));
        }
    }
}

/// libvirt's keep-alive needs an event loop somewhere in the process; it must be there before the
/// first connection.
pub fn keep_alive_loop() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Errors come back as values; libvirt would also print each to stderr.
        virt::error::clear_error_callback();
        if virt::event::event_register_default_impl().is_err() {
            return;
        }
        let looping = || while virt::event::event_run_default_impl().is_ok() {};
        if let Err(e) = std::thread::Builder::new().name("libvirt-events".to_owned()).spawn(looping)
        {
            tracing::warn!(error = %e, "no thread for libvirt's events: a hung libvirtd will not \
                be noticed");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// libvirt's own driver for tests: a connection without any host behind it.
    const TEST: &str = "test:///default";

    #[test]
    fn tries_are_spread_and_capped() {
        let mut link = Link::new("qemu+unix:///system?socket=/nowhere/libvirt-sock");
        keep_alive_loop();
        for _ in 0..20 {
            assert!(link.open().is_err());
            link.not_before = None;
        }
        assert_eq!(link.backoff, BACKOFF_MAX);
        link.uri = TEST.to_owned();
        assert!(link.open().is_ok());
        assert_eq!(link.backoff, BACKOFF_MIN);
        assert!(
            link.with(|_| Err::<(), _>(HvError::NoCapacity {
                what: "x".into(),
                detail: "y".into()
            }))
            .is_err()
        );
        assert!(link.open.is_some(), "an error of a job isn't an error of the connection");
        link.close();
    }
}
