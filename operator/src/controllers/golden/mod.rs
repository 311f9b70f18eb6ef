//! The controller of `GoldenSnapshot`.

mod layouts;
mod observe;
mod publish;

use std::{sync::Arc, time::Duration};

use agentvm_core::golden::{Plan, patience, plan};
use agentvm_crds::GoldenSnapshot;
use agentvm_types::OwnerUid;
use kube::runtime::controller::Action;

use super::{Context, Guarded, error::Error};
use crate::goldens::{Owner, Wanted};
pub use layouts::asked;
use observe::{GoldenFacts, observe};

/// A look from time to time, should an event have been missed.
const SLOW: Duration = Duration::from_mins(1);

/// Observe, plan, execute, publish.
pub async fn reconcile(
    object: Arc<Guarded<GoldenSnapshot>>,
    cx: Arc<Context>,
) -> Result<Action, Error> {
    let Ok(snapshot) = &object.0 else { return Ok(Action::await_change()) };
    let seen = observe(snapshot, &cx);
    let mut again = SLOW;
    if let GoldenFacts::Here { recipe, parts, asked } = &seen {
        let created = snapshot.metadata.creation_timestamp.as_ref().map(|created| created.0);
        let early = if *asked { None } else { patience(created, cx.clock.now()) };
        for part in parts.iter().filter(|part| part.needed) {
            let (layout, key) = (part.layout, part.key.clone());
            match (plan(&part.local, cx.clock.now()), early) {
                (Plan::Capture, Some(wait)) => again = again.min(wait),
                (Plan::Capture, None) if !cx.draining() => {
                    cx.goldens
                        .capture(owner(snapshot)?, Wanted { recipe: recipe.clone(), layout, key });
                }
                (Plan::WaitUntil(at), _) => again = again.min(cx.wake_in(at)),
                (Plan::Capture | Plan::Wait, _) => {}
            }
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
        uid: OwnerUid::new(meta.uid.clone().ok_or(Error::Incomplete("uid"))?),
    })
}
