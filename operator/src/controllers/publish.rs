//! A status is written whole, once, and only when it differs: a compare-and-swap on
//! `resourceVersion`.

use std::fmt::Debug;

use agentvm_crds::{AgentRun, AgentVMPool, GoldenSnapshot};
use kube::{
    Api, Resource, ResourceExt,
    api::PostParams,
    core::{NamespaceResourceScope, object::HasStatus},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{Context, error::Error};
use crate::metrics::{Kind, Verb};

/// The metrics' name of the written kind.
pub trait Counted {
    const KIND: Kind;
}

impl Counted for AgentRun {
    const KIND: Kind = Kind::AgentRun;
}

impl Counted for AgentVMPool {
    const KIND: Kind = Kind::AgentVMPool;
}

impl Counted for GoldenSnapshot {
    const KIND: Kind = Kind::GoldenSnapshot;
}

/// Writes a status. `false`: nothing that a reader could notice had changed, so nothing was sent.
pub async fn publish<K>(cx: &Context, object: &K, next: K::Status) -> Result<bool, Error>
where
    K: Counted + Resource<DynamicType = (), Scope = NamespaceResourceScope> + HasStatus,
    K: Clone + Debug + Serialize + DeserializeOwned,
    K::Status: PartialEq,
{
    if object.status() == Some(&next) {
        return Ok(false);
    }
    let namespace = object.namespace().ok_or(Error::Incomplete("namespace"))?;
    let api: Api<K> = Api::namespaced(cx.client.clone(), &namespace);
    let mut copy = object.clone();
    copy.meta_mut().managed_fields = None;
    *copy.status_mut() = Some(next);
    cx.metrics.api_write(K::KIND, Verb::Update);
    api.replace_status(&object.name_any(), &PostParams::default(), &copy)
        .await
        .map_err(Error::api("a status"))?;
    Ok(true)
}
