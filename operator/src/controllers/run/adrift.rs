//! A run whose machine works for it, though the status that this operator knows has no open
//! attempt. The object is read live; then its status is restored, or the machine is released.

use std::time::Duration;

use agentvm_core::run::{Adrift, adrift, claimed, finished_attempt};
use agentvm_crds::AgentRun;
use kube::{Api, ResourceExt, runtime::controller::Action};

use super::{Run, publish};
use crate::{
    controllers::{Context, error::Error},
    machines::Work,
};

/// The next look, should the watch not bring the newer object before.
const AGAIN: Duration = Duration::from_millis(500);

pub async fn settle(run: &Run<'_>, work: &Work, cx: &Context) -> Result<Action, Error> {
    let namespace = run.object.namespace().ok_or(Error::Incomplete("namespace"))?;
    let api: Api<AgentRun> = Api::namespaced(cx.client.clone(), &namespace);
    let live = api.get_opt(&run.object.name_any()).await.map_err(Error::api("a live read"))?;
    // The sweep releases the machine of a run that is gone.
    let Some(live) = live.filter(|live| live.metadata.uid.as_deref() == Some(run.uid.as_str()))
    else {
        return Ok(Action::requeue(AGAIN));
    };
    let (status, nonce) = (live.status.as_ref(), work.claim.nonce.as_str());
    let way = adrift(&run.valid, status, nonce, work.done.as_deref());
    tracing::debug!(run = %live.name_any(), ?way,
        "its machine works, and its cached status does not say so");
    match way {
        Adrift::Known => {}
        Adrift::Release => cx.machines.release(&run.uid),
        Adrift::Restore => restore(&live, work, run, cx).await?,
    }
    Ok(Action::requeue(AGAIN))
}

/// Writes again what the status must have said.
async fn restore(live: &AgentRun, work: &Work, run: &Run<'_>, cx: &Context) -> Result<(), Error> {
    tracing::warn!(run = %live.name_any(), "its status was lost while its machine works: restored");
    let decided = run.decided(cx);
    let open = claimed(&live.status.clone().unwrap_or_default(), &work.claim, decided);
    match &work.done {
        None => Ok(publish::status(live, open, cx).await?),
        Some(done) => publish::end(live, finished_attempt(&open, done, decided), cx).await,
    }
}
