//! Threads that own the connections to libvirt, so that nothing blocks the async runtime.
//!
//! A job that was sent is a job that may happen: when its deadline passes the caller learns that the outcome is unknown. A
//! job that nobody waits for any more when its turn comes is dropped unstarted.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use virt::connect::Connect;

use crate::HvError;
use crate::locks::lock;

type Job = Box<dyn FnOnce(&mut Link) + Send>;

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Some threads with a connection each, and the queue they share.
#[derive(Debug)]
pub struct Lane {
    jobs: Sender<Job>,
}

impl Lane {
    pub fn start(name: &str, uri: &str, threads: usize) -> std::io::Result<Self> {
        keep_alive_loop();
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for n in 0..threads.max(1) {
            let (queue, link) = (Arc::clone(&queue), Link::new(uri));
            std::thread::Builder::new().name(format!("libvirt-{name}-{n}")).spawn(move || work(&queue, link))?;
        }
        Ok(Self { jobs })
    }

    /// Runs `job` on one of the threads.
    pub async fn call<T: Send + 'static>(
        &self,
        what: impl Into<String>,
        deadline: Duration,
        job: impl FnOnce(&Connect) -> Result<T, HvError> + Send + 'static,
    ) -> Result<T, HvError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |link| {
            if !answer.is_closed() {
                // Nobody may be listening any more; then the next look at the host shows what happened.
                let _ = answer.send(link.with(job));
            }
        });
        let what = what.into();
        let gone =
            |what: &str| HvError::Refused { what: what.to_owned(), detail: "its worker thread ended".to_owned() };
        self.jobs.send(job).map_err(|_| gone(&what))?;
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(gone(&what)),
            Err(_) => Err(HvError::OutcomeUnknown { what, seconds: deadline.as_secs() }),
        }
    }
}

fn work(queue: &Mutex<Receiver<Job>>, mut link: Link) {
    loop {
        let job = lock(queue).recv();
        let Ok(job) = job else { return };
        // A job that panics costs its own answer, not the thread.
        if catch_unwind(AssertUnwindSafe(|| job(&mut link))).is_err() {
            tracing::error!("a job of the libvirt worker panicked");
            link.close();
        }
    }
}

/// A connection that comes back.
struct Link {
    uri: String,
    open: Option<Connect>,
    backoff: Duration,
    not_before: Option<Instant>,
    last_error: String,
}

impl Link {
    fn new(uri: &str) -> Self {
        Self { uri: uri.to_owned(), open: None, backoff: BACKOFF_MIN, not_before: None, last_error: String::new() }
    }

    fn with<T>(&mut self, job: impl FnOnce(&Connect) -> Result<T, HvError>) -> Result<T, HvError> {
        let result = job(self.connection()?);
        // A call that failed because the connection broke says so in libvirt's words; whoever asked needs ours.
        match (result, self.is_alive()) {
            (Err(error), false) => {
                self.close();
                Err(HvError::Unavailable { uri: self.uri.clone(), detail: error.to_string() })
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
                self.last_error = e.message().to_owned();
                self.not_before = Some(Instant::now() + self.backoff);
                self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
                Err(self.unavailable())
            }
        }
    }

    /// The binding panics when libvirt can't close a connection; a broken one is what this is called for.
    fn close(&mut self) {
        if let Some(connection) = self.open.take() {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(connection)));
        }
    }
}

/// libvirt's keep-alive needs an event loop somewhere in the process; it must be there before the first connection.
fn keep_alive_loop() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Errors come back as values; libvirt would also print each to stderr.
        virt::error::clear_error_callback();
        if virt::event::event_register_default_impl().is_err() {
            return;
        }
        let looping = || while virt::event::event_run_default_impl().is_ok() {};
        if let Err(e) = std::thread::Builder::new().name("libvirt-events".to_owned()).spawn(looping) {
            tracing::warn!(error = %e, "no thread for libvirt's events: a hung libvirtd will not be noticed");
        }
    });
}
