//! An attempt under way: its output is kept, its end is waited for, a stop is passed on.

use agentvm_core::run::{AttemptEnd, StopCause};
use agentvm_guest_agent::{
    client::{AttemptEvent, ClientError, Execution},
    protocol::{OutputChunk, OutputGap, Resume, StreamId, WireResult},
};
use agentvm_hypervisor::Channel;

use super::{
    Attempt, GRACE, Store,
    report::{Interrupted, lost},
    store::Taken,
    time_limits::EVICTED,
};
use crate::agent::Session;

impl Attempt<'_> {
    /// Asks for everything that is not kept yet.
    pub(super) async fn resume(&mut self, session: &mut Session) -> Result<(), Interrupted> {
        let message = Resume {
            nonce: self.record.nonce.clone(),
            stdout_offset: self.received(StreamId::Stdout)?,
            stderr_offset: self.received(StreamId::Stderr)?,
        };
        session.resume(message).await?;
        self.progress.acknowledged.get_or_insert_with(|| self.clock.instant());
        self.claim = None;
        Ok(())
    }

    fn received(&self, stream: StreamId) -> Result<u64, Interrupted> {
        self.store.len(stream).map_err(|why| lost(format!("its output could not be read: {why}")))
    }

    /// Follows the agent until the result is there.
    pub(super) async fn follow(
        &mut self,
        session: &mut Session,
    ) -> Result<WireResult, Interrupted> {
        let mut execution = session.follow(self.record.nonce.clone());
        let mut told = false;
        let mut stop = self.stop.clone();
        loop {
            let cause = *stop.borrow_and_update();
            if let Some(cause) = cause.filter(|_| !told) {
                told = true;
                let grace = if cause == StopCause::Cancelled { GRACE } else { EVICTED };
                execution.stop(grace).await?;
            }
            let event = tokio::select! {
                biased;
                Ok(()) = stop.changed(), if !told => continue,
                event = execution.next() => event,
            };
            if event.as_ref().err().is_none_or(ClientError::is_answer) {
                self.progress.last_contact = self.clock.instant();
            }
            match event? {
                AttemptEvent::Output(output) => self.take(&mut execution, output).await?,
                AttemptEvent::Gap(gap) => self.skip(&mut execution, gap).await?,
                AttemptEvent::Result(result) => return Ok(result),
                AttemptEvent::Alive => self.idle_message()?,
            }
        }
    }

    /// A message that brought nothing. An agent that sends them without end is not the agent that
    /// we put into the machine.
    fn idle_message(&mut self) -> Result<(), Interrupted> {
        if self.progress.budget.idle_message(self.clock.instant()) {
            return Ok(());
        }
        Err(lost("its agent sent messages that say nothing, without end".to_owned()))
    }

    /// Writes output down, then acknowledges it.
    async fn take(
        &mut self,
        execution: &mut Execution<'_, Channel>,
        output: OutputChunk,
    ) -> Result<(), Interrupted> {
        let (limit, stream) = (self.spec.max_stream_bytes, output.stream);
        let keep = move |store: &Store| store.take(stream, output.offset, &output.data, limit);
        self.kept(execution, stream, keep).await
    }

    /// Notes the missing part of a stream, then acknowledges it.
    async fn skip(
        &mut self,
        execution: &mut Execution<'_, Channel>,
        gap: OutputGap,
    ) -> Result<(), Interrupted> {
        self.kept(execution, gap.stream, move |store| store.skip(gap)).await
    }

    async fn kept(
        &mut self,
        execution: &mut Execution<'_, Channel>,
        stream: StreamId,
        keep: impl FnOnce(&Store) -> std::io::Result<Taken> + Send + 'static,
    ) -> Result<(), Interrupted> {
        let store = self.store.clone();
        let (before, taken) =
            tokio::task::spawn_blocking(move || Ok((store.len(stream)?, keep(&store)?)))
                .await
                .map_err(std::io::Error::other)
                .flatten()
                .map_err(|why| {
                    let message = format!("its streams could not be written to the node: {why}");
                    Interrupted::Over(AttemptEnd::OutputLost, message)
                })?;
        match taken {
            Taken::UpTo(offset) => {
                if offset <= before {
                    self.idle_message()?;
                }
                Ok(execution.acknowledge(stream, offset).await?)
            }
            Taken::Gap => Err(ClientError::Unexpected("OUTPUT beyond what was sent").into()),
            Taken::TooMuch => {
                Err(lost("its agent sent more output than it was allowed to".to_owned()))
            }
        }
    }
}
