//! The effect of each message of the host. A repeated request is answered again, and done once.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use agentvm_guest_agent::protocol::{
    Blob, ErrorCode, ErrorReport, Execute, FileChunk, GuestAck, GuestLease, GuestMessage, HostAck,
    HostMessage, Nonce, Rehydrate, Resume, Secret, Stop,
};
use agentvm_types::report;

use crate::agent::{Agent, Identity};
use crate::attempt::Attempt;
use crate::platform::Platform;
use crate::ready::{Ready, StartError};
use crate::rehearsal::{self, rehearse};
use crate::workspace;

impl Agent {
    /// Handles one message. Before a HELLO was accepted, nothing else is.
    pub async fn handle(&mut self, message: HostMessage) {
        let greeted = self.session().is_some_and(|session| session.greeted);
        match message {
            HostMessage::Hello(hello) => self.hello(hello),
            _ if !greeted => self.refuse(ErrorCode::Invalid, "HELLO comes first", None),
            HostMessage::Rehydrate(order) => self.rehydrate(order).await,
            HostMessage::Lease(order) => self.lease(&order).await,
            HostMessage::Execute(order) => self.execute(&order),
            HostMessage::File(chunk) => self.file(&chunk),
            HostMessage::Stop(Stop::Attempt { nonce, grace_millis }) => {
                self.stop(nonce, grace_millis);
            }
            HostMessage::Stop(Stop::Quiesce { golden }) => self.quiesce(golden).await,
            HostMessage::Stop(Stop::PowerOff) => {
                self.answer(GuestMessage::Ack(GuestAck::PowerOff));
                self.power_off = true;
            }
            HostMessage::Ack(ack) => self.acknowledged(ack),
            HostMessage::Resume(order) => self.resume(order),
            HostMessage::Ping(ping) => self.answer(GuestMessage::Ping(ping)),
            HostMessage::Warm => self.warm().await,
        }
    }

    /// Answers with an error.
    pub fn refuse(&mut self, code: ErrorCode, message: impl Into<String>, nonce: Option<Nonce>) {
        self.answer(GuestMessage::Error(ErrorReport {
            code,
            message: message.into().into(),
            nonce,
            challenge: None,
        }));
    }

    pub(super) fn close(&mut self) {
        if let Some(session) = self.session() {
            session.closing = true;
        }
    }

    async fn rehydrate(&mut self, order: Rehydrate) {
        let nonce = order.nonce.clone();
        if self.attempt.is_some() {
            return self.refuse(
                ErrorCode::Busy,
                "an attempt is not over, or its result not acknowledged",
                Some(nonce),
            );
        }
        if self.executed.contains_key(&nonce) {
            return self.refuse(
                ErrorCode::Invalid,
                "this nonce was executed already; use a new one",
                Some(nonce),
            );
        }
        self.unready().await;
        if let Err(why) = self.platform.rehydrate(&order) {
            return self.refuse(ErrorCode::Failed, report(&why), Some(nonce));
        }
        self.identity = Some(Identity { nonce: order.nonce, token: order.token });
        self.answer(GuestMessage::Ack(GuestAck::Rehydrate { nonce }));
    }

    /// No attempt starts during the request: a run begins with an address or not at all.
    async fn lease(&mut self, order: &GuestLease) {
        if self.attempt.is_some() {
            return self.refuse(
                ErrorCode::Busy,
                "an attempt is not over, or its result not acknowledged",
                None,
            );
        }
        if self.held().is_none() {
            return self.refuse(
                ErrorCode::Invalid,
                "LEASE comes between REHYDRATE and EXECUTE",
                None,
            );
        }
        match self.platform.lease(order).await {
            Ok(address) => self.answer(GuestMessage::Ack(GuestAck::Lease { address })),
            Err(why) => self.refuse(ErrorCode::Failed, report(&why), None),
        }
    }

    fn execute(&mut self, order: &Execute) {
        let nonce = order.nonce.clone();
        let content = content(order);
        if let Some(executed) = self.executed.get(&nonce) {
            if *executed == content {
                return self.answer(GuestMessage::Ack(GuestAck::Execute { nonce }));
            }
            // Two hosts lend this machine, and each takes it for its own. The second one must not
            // take the result of the first one's program for the result of its own.
            return self.refuse(
                ErrorCode::Invalid,
                "this nonce was executed already, with another program; use a new one",
                Some(nonce),
            );
        }
        if self.identity.as_ref().is_none_or(|identity| identity.nonce != nonce) {
            return self.refuse(
                ErrorCode::UnknownNonce,
                "this machine does not hold that nonce",
                Some(nonce),
            );
        }
        if let Some(what) = invalid(order) {
            return self.refuse(ErrorCode::Invalid, what, Some(nonce));
        }
        match self.start(order) {
            Ok(attempt) => {
                self.executed.insert(nonce.clone(), content);
                self.attempt = Some(attempt);
                self.answer(GuestMessage::Ack(GuestAck::Execute { nonce }));
                if let Some(session) = self.session() {
                    session.outbox.resume(0, 0);
                }
            }
            Err(why) => self.refuse(ErrorCode::Failed, report(&why), Some(nonce)),
        }
    }

    fn start(&mut self, order: &Execute) -> Result<Attempt, StartError> {
        self.platform.refresh(order).map_err(StartError::Platform)?;
        let ready = self
            .ready
            .take()
            .filter(Ready::is_waiting)
            .map_or_else(|| Ready::start(&self.platform), Ok)?;
        ready.execute(&self.platform, order)
    }

    /// Prepares everything for EXECUTE: the way is walked once, and the launcher of the next
    /// attempt is in its place.
    async fn warm(&mut self) {
        if self.attempt.is_some() {
            return self.refuse(
                ErrorCode::Busy,
                "an attempt is not over, or its result not acknowledged",
                None,
            );
        }
        if self.held().is_none() {
            return self.refuse(
                ErrorCode::Invalid,
                "WARM comes between REHYDRATE and EXECUTE",
                None,
            );
        }
        if !self.ready.as_ref().is_some_and(Ready::is_waiting) {
            self.unready().await;
            match self.make_ready().await {
                Ok(ready) => self.ready = Some(ready),
                Err(why) => return self.refuse(ErrorCode::Failed, report(&why), None),
            }
        }
        self.answer(GuestMessage::Ack(GuestAck::Warm));
    }

    async fn make_ready(&self) -> Result<Ready, StartError> {
        rehearse(&self.platform, &rehearsal::OF_MACHINE).await?;
        Ready::parked(&self.platform).await
    }

    async fn unready(&mut self) {
        if let Some(ready) = self.ready.take() {
            ready.discard().await;
        }
    }

    fn file(&mut self, chunk: &FileChunk) {
        if self.attempt.is_some() {
            return self.refuse(ErrorCode::Busy, "files come before EXECUTE", None);
        }
        let path = chunk.path.clone();
        match workspace::write_chunk(&self.platform.secrets(), chunk, self.platform.owner()) {
            Ok(offset) => self.answer(GuestMessage::Ack(GuestAck::File { path, offset })),
            Err(why @ workspace::FileError::Io { .. }) => {
                self.refuse(ErrorCode::Failed, report(&why), None);
            }
            Err(why) => self.refuse(ErrorCode::Invalid, report(&why), None),
        }
    }

    fn stop(&mut self, nonce: Nonce, grace_millis: u64) {
        match self.attempt.as_mut().filter(|attempt| *attempt.nonce() == nonce) {
            Some(attempt) => {
                attempt.stop(Duration::from_millis(grace_millis));
                self.answer(GuestMessage::Ack(GuestAck::StopAttempt { nonce }));
            }
            None => self.refuse(
                ErrorCode::UnknownNonce,
                "no attempt of that nonce is here",
                Some(nonce),
            ),
        }
    }

    async fn quiesce(&mut self, golden: Option<Nonce>) {
        if self.attempt.is_some() {
            return self.refuse(
                ErrorCode::Busy,
                "an attempt is not over, or its result not acknowledged",
                None,
            );
        }
        self.unready().await;
        if let Err(why) = self.platform.quiesce() {
            return self.refuse(ErrorCode::Failed, report(&why), None);
        }
        // A host's page cache is its own affair.
        if matches!(self.platform, Platform::Machine(_))
            && let Err(why) = rehearse(&self.platform, &rehearsal::OF_GOLDEN).await
        {
            return self.refuse(ErrorCode::Failed, report(&why), None);
        }
        self.platform.settle().await;
        self.identity = None;
        self.golden = golden;
        let inspection = Some(self.inspect());
        self.answer(GuestMessage::Ack(GuestAck::Quiesce { inspection }));
        self.close();
    }

    fn acknowledged(&mut self, ack: HostAck) {
        let Some(attempt) = &mut self.attempt else { return };
        match ack {
            HostAck::Output { stream, offset } => {
                if let Err(why) = attempt.stream_mut(stream).replay_mut().ack(offset) {
                    self.refuse(ErrorCode::BadOffset, why.to_string(), None);
                }
            }
            HostAck::Result { nonce }
                if attempt.result().is_some() && *attempt.nonce() == nonce =>
            {
                self.attempt = None;
            }
            // It belongs to another attempt, or comes too early: output that is not acknowledged is
            // kept.
            HostAck::Result { .. } => {}
        }
    }

    fn resume(&mut self, order: Resume) {
        let Some(attempt) = self.attempt.as_ref().filter(|attempt| *attempt.nonce() == order.nonce)
        else {
            return self.refuse(
                ErrorCode::UnknownNonce,
                "no attempt of that nonce is here",
                Some(order.nonce),
            );
        };
        let (stdout, stderr) = (order.stdout_offset, order.stderr_offset);
        let kept = attempt
            .stdout
            .replay()
            .read_from(stdout, 0)
            .and(attempt.stderr.replay().read_from(stderr, 0));
        if let Err(why) = kept {
            return self.refuse(ErrorCode::BadOffset, why.to_string(), Some(order.nonce));
        }
        if let Some(session) = self.session() {
            session.outbox.resume(stdout, stderr);
        }
    }
}

/// A digest of everything that an order says about its program. Time and randomness differ in a
/// repeated order. The hasher has no keys, so the digest is equal in each copy of a machine.
fn content(order: &Execute) -> u64 {
    let order = Execute { time_unix_nanos: 0, entropy: Blob::default(), ..order.clone() };
    let mut hasher = DefaultHasher::new();
    HostMessage::Execute(order).into_frame().map(|frame| frame.payload).ok().hash(&mut hasher);
    hasher.finish()
}

/// The reason why no system call would accept this order.
fn invalid(order: &Execute) -> Option<&'static str> {
    let nul = |text: &str| text.contains('\0');
    if order.argv.first().is_none_or(String::is_empty) {
        return Some("argv needs a program to run");
    }
    if order.argv.iter().any(|argument| nul(argument)) || order.cwd.as_deref().is_some_and(nul) {
        return Some("a NUL byte cannot be in argv or cwd");
    }
    let bad_name = |name: &str| name.is_empty() || name.contains('=') || nul(name);
    let bad_value = |value: &Secret| value.expose().contains(&0);
    if order.env.iter().any(|var| bad_name(&var.name) || bad_value(&var.value)) {
        return Some(
            "names in env are not empty and hold no `=`; neither names nor values hold a NUL byte",
        );
    }
    None
}
