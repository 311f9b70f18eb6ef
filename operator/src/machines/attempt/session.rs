//! One session of an attempt: the agent's answer decides between EXECUTE, RESUME and the end.

use agentvm_guest_agent::protocol::{AttemptState, GuestHello, WireResult};
use tokio::time::Instant;

use super::{
    Attempt,
    report::{Interrupted, lost},
    time_limits::{KEPT_PATIENCE, PATIENCE},
};
use crate::agent::{Session, SessionError, reach};

impl Attempt<'_> {
    /// One session: from EXECUTE or HELLO to RESULT, or to an interruption.
    pub(super) async fn session(
        &mut self,
        kept: Option<Session>,
    ) -> Result<WireResult, Interrupted> {
        let mut session = match kept {
            Some(session) => self.on_kept(session).await?,
            None => self.on_new().await?,
        };
        self.follow(&mut session).await
    }

    /// One resume, one message. The input is written meanwhile: no program reads it before EXECUTE.
    async fn on_kept(&mut self, mut session: Session) -> Result<Session, Interrupted> {
        self.may_start()?;
        let (resumed, put) = tokio::join!(self.resumed(), self.put_input());
        self.progress.acquired = Some(resumed?);
        put?;
        // A stop may have come meanwhile: nothing was sent yet.
        self.may_start()?;
        self.start(&mut session, KEPT_PATIENCE).await?;
        Ok(session)
    }

    async fn on_new(&mut self) -> Result<Session, Interrupted> {
        let running = self.resumed().await?;
        self.progress.acquired.get_or_insert(running);
        let token = Some(&self.record.token);
        let (mut session, hello) =
            reach(self.hv, &self.record.name, token, self.clock, PATIENCE).await?;
        self.progress.last_contact = self.clock.instant();
        match self.state(&hello)? {
            AttemptState::Held => {
                // The agent executes a nonce once and says that it has not: nothing was started.
                self.progress.sent = false;
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
        Ok(self.clock.instant())
    }

    /// The state of our nonce, as the agent reports it. Other nonces prove nothing.
    fn state(&mut self, hello: &GuestHello) -> Result<AttemptState, Interrupted> {
        let ours = hello.attempt.as_ref().filter(|a| a.nonce == self.record.nonce);
        if ours.is_some_and(|a| a.state != AttemptState::Held) {
            self.progress.sent = true;
        }
        ours.map(|a| a.state).ok_or_else(|| {
            self.progress.sent = true;
            lost("its agent does not know this attempt".to_owned())
        })
    }
}
