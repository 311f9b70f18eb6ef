//! Threads that own the connections to libvirt, so that nothing blocks the async runtime.
//!
//! A job that was sent may happen. When its deadline passes, the caller learns that the outcome is
//! unknown. A job whose caller is gone when its turn comes is dropped unstarted. A job that waits
//! for something else checks its caller again before it begins: by then its name may belong to
//! another machine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use agentvm_types::report;

use tokio::sync::oneshot;
use virt::connect::Connect;

use crate::HvError;
use crate::locks::lock;

/// Does the caller still wait for the job?
pub type Wanted<'a> = &'a dyn Fn() -> bool;

/// For callers that wait themselves.
pub const ALWAYS: Wanted<'static> = &|| true;

/// An error when the caller is gone; nothing reads it either.
pub fn still(wanted: Wanted<'_>, what: &str) -> Result<(), HvError> {
    let gone = || HvError::Refused {
        what: what.to_owned(),
        detail: "nobody waits for it any more".to_owned(),
    };
    if wanted() { Ok(()) } else { Err(gone()) }
}

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
            std::thread::Builder::new()
                .name(format!("libvirt-{name}-{n}"))
                .spawn(move || work(&queue, link))?;
        }
        Ok(Self { jobs })
    }

    /// Runs `job` on one of the threads.
    pub async fn call<T: Send + 'static>(
        &self,
        what: impl Into<String>,
        deadline: Duration,
        job: impl FnOnce(&Connect, Wanted<'_>) -> Result<T, HvError> + Send + 'static,
    ) -> Result<T, HvError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |link| {
            if !answer.is_closed() {
                let wanted = || !answer.is_closed();
                let done = link.with(|conn| {
                    // It may have taken a while to get a connection.
                    still(&wanted, "begin a job of libvirt's")?;
                    job(conn, &wanted)
                });
                // The caller may be gone; then the next look at the host shows the outcome.
                let _ = answer.send(done);
            }
        });
        let what = what.into();
        let gone = |what: &str| HvError::Refused {
            what: what.to_owned(),
            detail: "its worker thread ended".to_owned(),
        };
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
        Self {
            uri: uri.to_owned(),
            open: None,
            backoff: BACKOFF_MIN,
            not_before: None,
            last_error: String::new(),
        }
    }

    fn with<T>(&mut self, job: impl FnOnce(&Connect) -> Result<T, HvError>) -> Result<T, HvError> {
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
    fn close(&mut self) {
        if let Some(connection) = self.open.take() {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(connection)));
        }
    }
}

/// libvirt's keep-alive needs an event loop somewhere in the process; it must be there before the
/// first connection.
fn keep_alive_loop() {
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
    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_job_runs_on_a_connection_and_answers() {
        let lane = Lane::start("test", TEST, 2).unwrap();
        let names = lane
            .call("list", SOON, |conn, _| Ok(conn.list_all_domains(0).map_or(0, |d| d.len())))
            .await
            .unwrap();
        assert_eq!(names, 1, "the test driver has one domain");
    }

    #[tokio::test]
    async fn a_deadline_means_unknown_and_what_nobody_waits_for_is_not_begun() {
        let lane = Lane::start("test", TEST, 1).unwrap();
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let stuck = lane
            .call("get stuck", Duration::from_millis(20), move |_, _| Ok(wait.recv().is_ok()))
            .await;
        assert!(matches!(stuck, Err(HvError::OutcomeUnknown { what, .. }) if what == "get stuck"));
        let (begun, was_begun) = std::sync::mpsc::channel::<()>();
        let queued = lane
            .call("wait behind it", Duration::from_millis(20), move |_, _| {
                Ok(begun.send(()).is_ok())
            })
            .await;
        assert!(matches!(queued, Err(HvError::OutcomeUnknown { .. })));
        release.send(()).unwrap();
        assert!(lane.call("go on", SOON, |_, _| Ok(true)).await.unwrap());
        assert!(was_begun.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_job_that_waited_for_another_sees_that_its_caller_has_gone() {
        let lane = Lane::start("test", TEST, 1).unwrap();
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let (seen, was_seen) = std::sync::mpsc::channel();
        let job = move |_: &Connect, wanted: Wanted<'_>| {
            let before = still(wanted, "x").is_ok();
            let _ = wait.recv();
            seen.send((before, still(wanted, "x").is_ok())).unwrap();
            Ok(())
        };
        assert!(lane.call("wait for a lock", Duration::from_millis(200), job).await.is_err());
        release.send(()).unwrap();
        assert_eq!(was_seen.recv_timeout(SOON).unwrap(), (true, false));
    }

    #[tokio::test]
    async fn a_panic_costs_one_job() {
        let lane = Lane::start("test", TEST, 1).unwrap();
        let broken = lane.call::<()>("panic", SOON, |_, _| panic!("on purpose")).await;
        assert!(matches!(broken, Err(HvError::Refused { .. })));
        assert!(lane.call("go on", SOON, |_, _| Ok(true)).await.unwrap());
    }

    #[tokio::test]
    async fn nobody_there_is_said_at_once() {
        let lane =
            Lane::start("test", "qemu+unix:///system?socket=/nowhere/libvirt-sock", 1).unwrap();
        for _ in 0..3 {
            let began = Instant::now();
            let error = lane.call("ask", SOON, |_, _| Ok(())).await.unwrap_err();
            assert!(
                matches!(&error, HvError::Unavailable { uri, .. } if uri.contains("/nowhere")),
                "{error}"
            );
            assert!(error.is_transient() && began.elapsed() < Duration::from_secs(5));
        }
    }

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
