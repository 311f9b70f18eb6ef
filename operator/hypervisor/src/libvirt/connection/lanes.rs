//! Threads that own the connections to libvirt, so that nothing blocks the async runtime.
//!
//! A job that was sent may happen. When its deadline passes, the caller learns that the outcome is
//! unknown. A job whose caller is gone when its turn comes is dropped unstarted. A job that waits
//! for something else checks its caller again before it begins: by then its name may belong to
//! another machine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use virt::connect::Connect;

use super::reconnect::{Link, keep_alive_loop};
use crate::HvError;
use crate::locks::lock;

/// Threads that create, capture and destroy. Captures may take as many as run at a time, and leave
/// the others.
pub const BUILD_WORKERS: usize = 6;
/// Threads that serve claims: resume, pause, state, list, health. Each is quick, but one machine's
/// QEMU that does not answer takes one of them for a while ([`super::silence`]).
pub const CLAIM_WORKERS: usize = 8;
/// Threads that reset machines, and change their limits.
pub const RESET_WORKERS: usize = 2;

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

#[cfg(test)]
mod tests {
    use std::time::Instant;

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
}
