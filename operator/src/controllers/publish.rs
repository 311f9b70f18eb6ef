//! A status is written whole, once, and only when it differs: a compare-and-swap on
//! `resourceVersion`. After any other answer than "done" the object is read live.

use std::fmt::Debug;

use agentvm_crds::{AgentRun, AgentVMPool, GoldenSnapshot};
use kube::{
    Api, Resource, ResourceExt,
    api::PostParams,
    core::{NamespaceResourceScope, object::HasStatus},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{Context, error::Error};
use crate::{
    api::{WriteError, settle},
    metrics::{Kind, Verb},
};

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
pub async fn publish<K>(cx: &Context, object: &K, next: K::Status) -> Result<bool, PublishError>
where
    K: Counted + Resource<DynamicType = (), Scope = NamespaceResourceScope> + HasStatus,
    K: Clone + Debug + Serialize + DeserializeOwned,
    K::Status: Clone + PartialEq,
{
    if object.status() == Some(&next) {
        return Ok(false);
    }
    let namespace = object.namespace().ok_or(PublishError::NoNamespace)?;
    let api: Api<K> = Api::namespaced(cx.client.clone(), &namespace);
    let mut copy = object.clone();
    copy.meta_mut().managed_fields = None;
    *copy.status_mut() = Some(next.clone());
    cx.metrics.api_write(K::KIND, Verb::Update);
    if let Err(answer) = api.replace_status(&object.name_any(), &PostParams::default(), &copy).await
    {
        settle(&api, object, &next, answer).await?;
    }
    Ok(true)
}

/// A status was not published, or that is not known.
#[derive(Debug)]
pub enum PublishError {
    NoNamespace,
    Write(WriteError),
}

impl From<WriteError> for PublishError {
    fn from(why: WriteError) -> Self {
        Self::Write(why)
    }
}

impl From<PublishError> for Error {
    fn from(why: PublishError) -> Self {
        match why {
            PublishError::NoNamespace => Self::Incomplete("namespace"),
            PublishError::Write(WriteError::NotWritten(proof)) if proof.object_is_gone() => {
                Self::Gone
            }
            PublishError::Write(WriteError::NotWritten(_)) => Self::Conflict,
            PublishError::Write(WriteError::InDoubt(source)) => Self::InDoubt { source },
        }
    }
}
