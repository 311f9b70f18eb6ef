//! The agent: one task owns the session, the identity and the attempt. No other code changes any of
//! them.

use std::collections::BTreeMap;
use std::time::Duration;

use agentvm_guest_agent::protocol::{ErrorCode, GuestMessage, Nonce, Token};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout_at};

use crate::attempt::Attempt;
use crate::log;
use crate::platform::Platform;
use crate::ready::Ready;
use crate::session::{Incoming, Permit, Session, send};
use crate::transport::Connection;

/// The time for which a replaced connection is still read, if it is not closed.
const LAST_WORDS: Duration = Duration::from_millis(50);
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// The machine's identity at the moment.
#[derive(Debug)]
pub struct Identity {
    pub nonce: Nonce,
    pub token: Token,
}

/// Facts of the kernel that never change.
#[derive(Debug)]
pub struct Kernel {
    pub boot_id: String,
    pub release: String,
}

impl Kernel {
    fn read() -> Self {
        let line = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Self {
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            release: line("/proc/sys/kernel/osrelease"),
        }
    }
}

/// Everything that is known.
#[derive(Debug)]
pub struct Agent {
    pub platform: Platform,
    pub kernel: Kernel,
    pub identity: Option<Identity>,
    pub attempt: Option<Attempt>,
    /// Where the next attempt will be, if that was prepared ahead.
    pub ready: Option<Ready>,
    /// It is never forgotten: a nonce in here is not executed again. Beside it is a digest of what
    /// was executed. It is no hash map, because a hasher's keys are randomness, which all copies of
    /// this machine would share.
    pub executed: BTreeMap<Nonce, u64>,
    /// The nonce of the golden state that this machine's memory is a copy of.
    pub golden: Option<Nonce>,
    /// Turn the machine off as soon as the last answer was sent.
    pub power_off: bool,
    session: Option<Session>,
}

impl Agent {
    pub fn new(platform: Platform) -> Self {
        let golden = platform.golden();
        Self {
            platform,
            kernel: Kernel::read(),
            identity: None,
            attempt: None,
            ready: None,
            executed: BTreeMap::new(),
            golden,
            power_off: false,
            session: None,
        }
    }

    /// Serves until the machine is turned off. The order of the branches is policy: first new
    /// connections and events of the attempt, then requests of the host, then sending.
    pub async fn run(
        mut self,
        mut links: mpsc::Receiver<Connection>,
        mut power: mpsc::Receiver<()>,
    ) -> ! {
        let mut status = interval_at(Instant::now() + STATUS_EVERY, STATUS_EVERY);
        status.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let Self { session, attempt, platform, .. } = &mut self;
            let sendable =
                session.as_ref().is_some_and(|session| session.outbox.has_next(attempt.as_ref()));
            tokio::select! {
                biased;
                Some(link) = links.recv() => self.replace_session(link).await,
                Some(()) = power.recv() => self.power_off = true,
                () = advance(attempt) => {}
                event = next_event(session, sendable) => match event {
                    Event::Sendable(permit) => self.send_next(permit),
                    Event::Incoming(incoming) => self.take(incoming).await,
                },
                _ = status.tick() => self.send_status(),
                () = platform.keep_lease() => {}
            }
            self.wind_up().await;
        }
    }

    /// Puts a message into the outbox of the session. Every handler runs within a session.
    pub fn answer(&mut self, message: GuestMessage) {
        if let Some(session) = &mut self.session {
            session.outbox.push(message);
        }
    }

    pub fn session(&mut self) -> Option<&mut Session> {
        self.session.as_mut()
    }

    /// The newest connection wins. Messages that the old one sent before it was closed still count:
    /// a host may acknowledge a result, close, and connect again at once.
    async fn replace_session(&mut self, link: Connection) {
        let deadline = Instant::now() + LAST_WORDS;
        while let Some(session) = self.session.as_mut().filter(|session| session.greeted) {
            match timeout_at(deadline, session.receive()).await {
                Ok(incoming) => self.take(incoming).await,
                Err(_) => break,
            }
        }
        self.session = Some(Session::start(link));
    }

    async fn take(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Message(message) => self.handle(message).await,
            Incoming::Closed => self.session = None,
            Incoming::Bad(what) => {
                // The bytes after a bad frame may be forged: only another HELLO is believed.
                if let Some(session) = &mut self.session {
                    session.greeted = false;
                }
                self.refuse(ErrorCode::BadFrame, what, None);
            }
        }
    }

    fn send_next(&mut self, permit: Option<Permit>) {
        let Some(permit) = permit else {
            self.session = None;
            return;
        };
        let next =
            self.session.as_mut().and_then(|session| session.outbox.next(self.attempt.as_ref()));
        if let Some(message) = next {
            send(permit, message);
        }
    }

    fn send_status(&mut self) {
        let Some(attempt) = self.attempt.as_ref().filter(|attempt| attempt.result().is_none())
        else {
            return;
        };
        // One that can't be delivered is stale by the time it can.
        if let Some(session) =
            self.session.as_mut().filter(|session| session.greeted && session.outbox.is_empty())
        {
            let mut status = Platform::status();
            attempt.scope().measure(&mut status);
            session.outbox.push(GuestMessage::Status(status));
        }
    }

    /// Ends a closing session when its last answer is sent. Then turns the machine off, if asked.
    async fn wind_up(&mut self) {
        if !self.power_off && self.session.as_ref().is_none_or(|session| !session.closing) {
            return;
        }
        let quiet = self.session.as_ref().is_none_or(|session| session.outbox.is_empty());
        if !quiet {
            return;
        }
        match &mut self.session {
            Some(session) if session.lasting && !self.power_off => {
                session.closing = false;
                session.greeted = false;
            }
            session => {
                if let Some(session) = session.take() {
                    session.finish().await;
                }
            }
        }
        if self.power_off {
            log::info("power off");
            self.platform.power_off();
        }
    }
}

async fn advance(attempt: &mut Option<Attempt>) {
    match attempt {
        Some(attempt) => attempt.advance().await,
        None => std::future::pending().await,
    }
}

/// The events of a session.
enum Event {
    /// There is room for a frame; `None` means that the connection is broken.
    Sendable(Option<Permit>),
    Incoming(Incoming),
}

/// Answers go out before more questions are read: a host that doesn't read isn't listened to.
async fn next_event(session: &mut Option<Session>, sendable: bool) -> Event {
    let Some(session) = session else { return std::future::pending().await };
    let outgoing = session.outgoing();
    tokio::select! {
        biased;
        permit = outgoing.reserve_owned(), if sendable => Event::Sendable(permit.ok()),
        incoming = session.receive() => Event::Incoming(incoming),
    }
}
