//! The beginning of an attempt: input, lease, secrets, EXECUTE, in this order.

use std::time::Duration;

use agentvm_guest_agent::protocol::{Blob, Execute};
use agentvm_types::report;

use super::{
    Attempt, GRACE,
    report::{Interrupted, lost, refused, stopped, unleased},
    store::end_bytes,
    time_limits::{LEASE, PATIENCE},
};
use crate::agent::{Session, lease, lease_message, millis, program};

impl Attempt<'_> {
    pub(super) fn may_start(&self) -> Result<(), Interrupted> {
        if let Some(cause) = *self.stop.borrow() {
            return Err(Interrupted::Over(
                stopped(cause),
                "stopped before it was started".to_owned(),
            ));
        }
        match &self.spec.missing {
            Some(missing) => Err(lost(missing.clone())),
            None => Ok(()),
        }
    }

    pub(super) async fn put_input(&self) -> Result<(), Interrupted> {
        // The share of a machine that holds its nonce is empty, or it has the input of an
        // interrupted try of this attempt.
        if self.spec.input.is_empty() {
            return Ok(());
        }
        let put = self.hv.put_input(&self.record.name, self.spec.input.clone()).await;
        put.map_err(|why| lost(format!("its input could not be written: {}", report(&why))))
    }

    pub(super) async fn start(
        &mut self,
        session: &mut Session,
        patience: Duration,
    ) -> Result<(), Interrupted> {
        self.lease(session).await?;
        for file in &self.spec.secrets {
            let sent = session.send_file(&file.path, file.mode, &file.content, PATIENCE).await;
            sent.map_err(|why| refused(&format!("secret file {:?}", file.path), why))?;
        }
        let message = self.message()?;
        // From here on the agent may have received it, whatever happens to this session.
        let sent_before = std::mem::replace(&mut self.progress.sent, true);
        if let Err(why) = session.execute(message, patience).await {
            // An answer says that the agent did not accept it; silence says nothing.
            self.progress.sent = sent_before || !why.is_final();
            return Err(refused("EXECUTE", why));
        }
        self.progress.acknowledged.get_or_insert_with(|| self.clock.instant());
        self.progress.last_contact = self.clock.instant();
        self.claim = None;
        Ok(())
    }

    async fn lease(&self, session: &mut Session) -> Result<(), Interrupted> {
        let Some(nic) = &self.bridged else { return Ok(()) };
        let message = lease_message(nic, LEASE, self.clock.now());
        lease(self.hv, &self.record.name, session, message).await.map_err(unleased)
    }

    fn message(&self) -> Result<Execute, Interrupted> {
        let spec = self.spec;
        Ok(Execute {
            env: spec.env.clone(),
            run_as: spec.run_as,
            project: !spec.input.is_empty(),
            stdin: spec.stdin.clone().map(Blob),
            timeout_millis: millis(spec.timeout),
            grace_millis: millis(GRACE),
            max_stdout_bytes: spec.max_stream_bytes,
            max_stderr_bytes: spec.max_stream_bytes,
            end_bytes: end_bytes(spec.max_stream_bytes),
            max_processes: self.max_processes,
            ..program(self.record.nonce.clone(), spec.argv.clone(), self.clock.now())?
        })
    }
}
