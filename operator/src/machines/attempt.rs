//! One attempt on one machine: started, or found under way after a restart, and followed to its result.
//!
//! ```text
//! parked, session kept open: resume -----> input, secrets, EXECUTE --> (as below)
//!
//!              +-- held ------> input, secrets, EXECUTE --+
//! HELLO says --+-- running ---> RESUME -------------------+--> OUTPUT* --> RESULT
//!              +-- finished --> RESUME -------------------+       |
//!              +-- anything else: lost                            +-- channel broken: HELLO again
//! ```
//!
//! The agent executes a nonce once, so a second EXECUTE is harmless; a machine that doesn't hold the nonce proves nothing and
//! is lost. `started` is `false` only when EXECUTE was certainly never sent.

use std::time::Duration;

use agentvm_core::run::{AttemptEnd, AttemptResult, StopCause};
use agentvm_guest_agent::protocol::{
    self as wire, AttemptState, Blob, Execute, FileChunk, GuestAck, GuestHello, GuestMessage,
    HostAck, HostMessage, Nonce, Resume, Stop, StreamId,
};
use agentvm_hypervisor::{Hypervisor, MachineRecord, PowerState};
use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{
    lease::{AGAIN, lease},
    order::Order,
    session::{Session, SessionError, kind, random, unix_nanos},
    store::{Store, Taken},
    urgent::Claiming,
    verdict::{Interrupted, Verdict, judge, stopped, unleased},
};
use crate::network::BridgedNic;

/// From SIGTERM to SIGKILL in the guest.
pub const GRACE: Duration = Duration::from_secs(5);
/// The same when the operator has to stop: its own time is short.
const EVICTED: Duration = Duration::from_secs(3);
/// What an agent gets on top of timeout and grace before the host ends the machine itself.
pub const SLACK: Duration = Duration::from_secs(30);
/// How long a machine that was running may stay silent before it counts as lost.
const LOST_AFTER: Duration = Duration::from_mins(1);
/// How long one try to reach the agent lasts.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a session that was kept open may be silent about EXECUTE before it counts as broken; a new one tells more.
const KEPT_PATIENCE: Duration = Duration::from_secs(5);
const RECONNECT: Duration = Duration::from_millis(200);

/// An attempt under way.
pub struct Attempt<'a> {
    pub hv: &'a dyn Hypervisor,
    pub record: &'a MachineRecord,
    pub order: &'a Order,
    pub store: Store,
    pub stop: watch::Receiver<Option<StopCause>>,
    /// Processes and threads that it may have at a time; 0: as many as its machine carries.
    pub max_processes: u32,
    /// Until the machine has acknowledged.
    claiming: Option<Claiming>,
    /// It has an address of others': its time may have run out while the machine was parked.
    station: Option<BridgedNic>,
    sent: bool,
    acquired: Option<Instant>,
    acknowledged: Option<Instant>,
    last_contact: Instant,
}

impl<'a> Attempt<'a> {
    pub fn new(
        hv: &'a dyn Hypervisor,
        record: &'a MachineRecord,
        order: &'a Order,
        store: Store,
        stop: watch::Receiver<Option<StopCause>>,
        claiming: Option<Claiming>,
        max_processes: u32,
    ) -> Self {
        let (station, sent, acquired, acknowledged) = (None, false, None, None);
        Self {
            hv,
            record,
            order,
            store,
            stop,
            max_processes,
            claiming,
            station,
            sent,
            acquired,
            acknowledged,
            last_contact: Instant::now(),
        }
    }

    pub fn on(self, station: Option<BridgedNic>) -> Self {
        Self { station, ..self }
    }

    /// Follows the attempt to its end, over as many sessions as it takes. The first may be `kept` open since the machine was
    /// prepared: its agent holds the nonce, and there is nothing to ask.
    pub async fn run(mut self, mut kept: Option<Session>) -> Verdict {
        let (result, wire) = loop {
            match self.session(kept.take()).await {
                Ok(result) => break (judge(&result, *self.stop.borrow()), Some(result)),
                Err(Interrupted::Over(end, message)) => break (self.ended(end, message), None),
                Err(Interrupted::Broken(why)) => {
                    tracing::warn!(run = %self.order.run, machine = %self.record.name, error = &why as &dyn std::error::Error, "the session with the agent ended");
                    if let Some(lost) = self.given_up(&why).await {
                        break (lost, None);
                    }
                    sleep(RECONNECT).await;
                }
            }
        };
        Verdict { result, wire, acquired: self.acquired, acknowledged: self.acknowledged }
    }

    /// One session: from EXECUTE or HELLO to RESULT, or to whatever interrupts it.
    async fn session(&mut self, kept: Option<Session>) -> Result<wire::AttemptResult, Interrupted> {
        let mut session = match kept {
            Some(session) => self.on_kept(session).await?,
            None => self.on_new().await?,
        };
        self.pump(&mut session).await
    }

    /// One resume, one message. The input is put in meanwhile: nothing reads it before EXECUTE.
    async fn on_kept(&mut self, mut session: Session) -> Result<Session, Interrupted> {
        self.may_start()?;
        let (resumed, put) = tokio::join!(self.resumed(), self.put_input());
        self.acquired = Some(resumed?);
        put?;
        // Told to stop meanwhile: nothing was sent yet.
        self.may_start()?;
        self.start(&mut session, KEPT_PATIENCE).await?;
        Ok(session)
    }

    async fn on_new(&mut self) -> Result<Session, Interrupted> {
        let running = self.resumed().await?;
        self.acquired.get_or_insert(running);
        let token = Some(self.record.token.as_str());
        let (mut session, hello) =
            Session::open(self.hv, &self.record.name, token, PATIENCE).await?;
        self.last_contact = Instant::now();
        match self.state(&hello)? {
            AttemptState::Held => {
                self.may_start()?;
                self.put_input().await?;
                self.start(&mut session, PATIENCE).await?;
            }
            AttemptState::Running | AttemptState::Finished => self.resume(&mut session).await?,
        }
        Ok(session)
    }

    async fn resumed(&self) -> Result<Instant, Interrupted> {
        let resumed = self.hv.resume(&self.record.name).await;
        resumed.map_err(|why| Interrupted::Broken(SessionError::Open(why)))?;
        Ok(Instant::now())
    }

    /// What the agent says of our nonce. Whatever else it says proves nothing.
    fn state(&mut self, hello: &GuestHello) -> Result<AttemptState, Interrupted> {
        let ours = hello.attempt.as_ref().filter(|a| a.nonce.as_str() == self.record.nonce);
        if ours.is_some_and(|a| a.state != AttemptState::Held) {
            self.sent = true;
        }
        ours.map(|a| a.state).ok_or_else(|| {
            self.sent = true;
            Interrupted::Over(
                AttemptEnd::GuestLost,
                "its agent does not know this attempt".to_owned(),
            )
        })
    }

    fn may_start(&self) -> Result<(), Interrupted> {
        if let Some(cause) = *self.stop.borrow() {
            return Err(Interrupted::Over(
                stopped(cause),
                "stopped before it was started".to_owned(),
            ));
        }
        match &self.order.missing {
            Some(missing) => Err(Interrupted::Over(AttemptEnd::GuestLost, missing.clone())),
            None => Ok(()),
        }
    }

    async fn put_input(&self) -> Result<(), Interrupted> {
        // A machine that holds its nonce has an empty share, or what an interrupted try of this attempt put there.
        if self.order.input.is_empty() {
            return Ok(());
        }
        let put = self.hv.put_input(&self.record.name, self.order.input.clone()).await;
        put.map_err(|why| {
            Interrupted::Over(
                AttemptEnd::GuestLost,
                format!("its input could not be written: {why}"),
            )
        })
    }

    async fn start(
        &mut self,
        session: &mut Session,
        patience: Duration,
    ) -> Result<(), Interrupted> {
        if let Some(station) = &self.station {
            lease(self.hv, &self.record.name, session, station, AGAIN).await.map_err(unleased)?;
        }
        for file in &self.order.secrets {
            self.send_secret(session, &file.path, file.mode, &file.content).await?;
        }
        let nonce = self.nonce()?;
        let order = self.order;
        let message = Execute {
            nonce: nonce.clone(),
            argv: order.argv.clone(),
            env: order.env.clone(),
            cwd: None,
            run_as: order.run_as,
            stdin: order.stdin.clone().map(Blob),
            timeout_millis: millis(order.timeout),
            grace_millis: millis(GRACE),
            max_stdout_bytes: order.max_stream_bytes,
            max_stderr_bytes: order.max_stream_bytes,
            max_processes: self.max_processes,
            time_unix_nanos: unix_nanos(Timestamp::now()),
            entropy: Blob(random::<64>()?.to_vec()),
        };
        // From here on it may have been received, whatever happens to this session.
        self.sent = true;
        let wanted = GuestMessage::Ack(GuestAck::Execute { nonce });
        session
            .request(HostMessage::Execute(message), patience, |message| *message == wanted)
            .await?;
        self.acknowledged.get_or_insert_with(Instant::now);
        self.last_contact = Instant::now();
        self.claiming = None;
        Ok(())
    }

    async fn send_secret(
        &self,
        session: &mut Session,
        path: &str,
        mode: u32,
        content: &[u8],
    ) -> Result<(), Interrupted> {
        let size = content.len() as u64;
        let mut offset = 0_u64;
        let mut pieces = content.chunks(wire::CHUNK).peekable();
        let empty: &[u8] = &[];
        let mut next = pieces.next().or(Some(empty));
        while let Some(data) = next {
            let end = offset + data.len() as u64;
            let chunk =
                FileChunk { path: path.to_owned(), mode, size, offset, data: data.to_vec() };
            let wanted = GuestMessage::Ack(GuestAck::File { path: path.to_owned(), offset: end });
            session
                .request(HostMessage::File(chunk), PATIENCE, |message| *message == wanted)
                .await?;
            offset = end;
            next = pieces.next();
        }
        Ok(())
    }

    async fn resume(&mut self, session: &mut Session) -> Result<(), Interrupted> {
        let message = Resume {
            nonce: self.nonce()?,
            stdout_offset: self.received(StreamId::Stdout)?,
            stderr_offset: self.received(StreamId::Stderr)?,
        };
        session.send(HostMessage::Resume(message)).await?;
        self.acknowledged.get_or_insert_with(Instant::now);
        self.claiming = None;
        Ok(())
    }

    /// Takes what the agent says until the result is there.
    async fn pump(&mut self, session: &mut Session) -> Result<wire::AttemptResult, Interrupted> {
        let deadline = Instant::now() + self.order.timeout + GRACE + SLACK;
        let mut told = false;
        let mut stop = self.stop.clone();
        loop {
            let cause = *stop.borrow_and_update();
            if let Some(cause) = cause.filter(|_| !told) {
                told = true;
                let grace = if cause == StopCause::Evicted { EVICTED } else { GRACE };
                let scope = Stop::Attempt { nonce: self.nonce()?, grace_millis: millis(grace) };
                session.send(HostMessage::Stop(scope)).await?;
            }
            let message = tokio::select! {
                biased;
                message = session.next() => message?,
                Ok(()) = stop.changed(), if !told => continue,
                () = sleep_until(deadline) => {
                    let message = "its agent did not end it, so the machine was ended".to_owned();
                    return Err(Interrupted::Over(AttemptEnd::DeadlineExceeded, message));
                }
            };
            self.last_contact = Instant::now();
            match message {
                GuestMessage::Output(output) => self.take(session, output).await?,
                GuestMessage::Result(result) if result.nonce.as_str() == self.record.nonce => {
                    return Ok(result);
                }
                GuestMessage::Status(_) | GuestMessage::Ping(_) | GuestMessage::Ack(_) => {}
                GuestMessage::Error(report) => {
                    return Err(SessionError::Refused(report.message).into());
                }
                other => return Err(SessionError::Unexpected(kind(&other).to_owned()).into()),
            }
        }
    }

    /// Writes output down, then acknowledges it.
    async fn take(
        &mut self,
        session: &mut Session,
        output: wire::Output,
    ) -> Result<(), Interrupted> {
        let (store, limit) = (self.store.clone(), self.order.max_stream_bytes);
        let stream = output.stream;
        let taken = tokio::task::spawn_blocking(move || {
            store.take(output.stream, output.offset, &output.data, limit)
        })
        .await
        .map_err(std::io::Error::other)
        .flatten()
        .map_err(|why| {
            Interrupted::Over(AttemptEnd::GuestLost, format!("its output could not be kept: {why}"))
        })?;
        match taken {
            Taken::UpTo(offset) => {
                Ok(session.send(HostMessage::Ack(HostAck::Output { stream, offset })).await?)
            }
            Taken::Gap => {
                Err(SessionError::Unexpected("OUTPUT beyond what was sent".to_owned()).into())
            }
            Taken::TooMuch => {
                let message = "its agent sent more output than it was allowed to".to_owned();
                Err(Interrupted::Over(AttemptEnd::GuestLost, message))
            }
        }
    }

    /// A broken session: is it worth another one?
    async fn given_up(&mut self, why: &SessionError) -> Option<AttemptResult> {
        let detail = match self.hv.state(&self.record.name).await {
            Ok(PowerState::Absent) => "its process is gone".to_owned(),
            Ok(PowerState::Dead { why }) => why,
            Ok(PowerState::Paused | PowerState::Running) | Err(_) => {
                if self.last_contact.elapsed() < LOST_AFTER {
                    return None;
                }
                format!("no answer for {} s: {why}", LOST_AFTER.as_secs())
            }
        };
        Some(self.ended(AttemptEnd::GuestLost, detail))
    }

    fn ended(&self, end: AttemptEnd, message: String) -> AttemptResult {
        AttemptResult { end, started: self.sent, message }
    }

    fn received(&self, stream: StreamId) -> Result<u64, Interrupted> {
        let length = self.store.len(stream);
        length.map_err(|why| {
            Interrupted::Over(AttemptEnd::GuestLost, format!("its output could not be read: {why}"))
        })
    }

    fn nonce(&self) -> Result<Nonce, Interrupted> {
        let nonce = self.record.nonce.parse();
        nonce.map_err(|_| {
            Interrupted::Over(AttemptEnd::GuestLost, "its recorded nonce is damaged".to_owned())
        })
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
