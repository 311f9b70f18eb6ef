//! The beginning of an attempt: input, lease, secrets, EXECUTE, in this order.

use std::time::Duration;

use agentvm_core::run::AttemptEnd;
use agentvm_guest_agent::protocol::{Blob, Execute};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    super::verdict::{Interrupted, stopped, unleased},
    Attempt, GRACE, PATIENCE, millis,
};
use crate::agent::{Session, lease, lease_message, program};

/// A DHCP server has this time for a machine whose lease expired while it was parked. A run waits
/// for it.
const LEASE: Duration = Duration::from_secs(10);

impl Attempt<'_> {
    pub(super) fn may_start(&self) -> Result<(), Interrupted> {
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

    pub(super) async fn put_input(&self) -> Result<(), Interrupted> {
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

    pub(super) async fn start(
        &mut self,
        session: &mut Session,
        patience: Duration,
    ) -> Result<(), Interrupted> {
        self.lease(session).await?;
        for file in &self.order.secrets {
            session.send_file(&file.path, file.mode, &file.content, PATIENCE).await?;
        }
        let message = self.message()?;
        // From here on the agent may have received it, whatever happens to this session.
        self.sent = true;
        session.execute(message, patience).await?;
        self.acknowledged.get_or_insert_with(Instant::now);
        self.last_contact = Instant::now();
        self.claiming = None;
        Ok(())
    }

    async fn lease(&self, session: &mut Session) -> Result<(), Interrupted> {
        let Some(nic) = &self.station else { return Ok(()) };
        let message = lease_message(nic, LEASE, Timestamp::now());
        lease(self.hv, &self.record.name, session, message).await.map_err(unleased)
    }

    fn message(&self) -> Result<Execute, Interrupted> {
        let order = self.order;
        Ok(Execute {
            env: order.env.clone(),
            run_as: order.run_as,
            stdin: order.stdin.clone().map(Blob),
            timeout_millis: millis(order.timeout),
            grace_millis: millis(GRACE),
            max_stdout_bytes: order.max_stream_bytes,
            max_stderr_bytes: order.max_stream_bytes,
            max_processes: self.max_processes,
            ..program(self.record.nonce.clone(), order.argv.clone(), Timestamp::now())?
        })
    }
}
