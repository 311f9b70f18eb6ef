//! The controller of `GoldenSnapshot`.

mod observe;
mod publish;

use std::{sync::Arc, time::Duration};

use agentvm_core::golden::{Plan, plan};
use agentvm_crds::GoldenSnapshot;
use jiff::Timestamp;
use kube::runtime::controller::Action;

use super::{Context, Guarded, error::Error};
use crate::goldens::Owner;
use observe::{Seen, observe};

/// A look from time to time, should an event have been missed.
const SLOW: Duration = Duration::from_mins(1);

/// Observe, plan, execute, publish.
pub async fn reconcile(object: Arc<Guarded<GoldenSnapshot>>, cx: Arc<Context>) -> Result<Action, Error> {
    let Ok(snapshot) = &object.0 else { return Ok(Action::await_change()) };
    let seen = observe(snapshot, &cx);
    let mut again = SLOW;
    if let Seen::Here { recipe, key, local, .. } = &seen {
        match plan(local, Timestamp::now()) {
            Plan::Capture if !cx.draining() => cx.goldens.capture(owner(snapshot)?, recipe.clone(), key.clone()),
            Plan::WaitUntil(at) => again = super::run::until(at).min(SLOW),
            Plan::Capture | Plan::Wait => {}
        }
    }
    // A capture that was just begun is seen again, so that the status says so.
    publish::publish_status(snapshot, &observe(snapshot, &cx), &cx).await?;
    Ok(Action::requeue(again))
}

fn owner(snapshot: &GoldenSnapshot) -> Result<Owner, Error> {
    let meta = &snapshot.metadata;
    Ok(Owner {
        namespace: meta.namespace.clone().ok_or(Error::Incomplete("namespace"))?,
        name: meta.name.clone().ok_or(Error::Incomplete("name"))?,
        uid: meta.uid.clone().ok_or(Error::Incomplete("uid"))?,
    })
}
