//! A status is written whole, once, and only when it differs: a compare-and-swap on `resourceVersion`.

use std::fmt::Debug;

use kube::{
    Api, Client, Resource, ResourceExt,
    api::PostParams,
    core::{NamespaceResourceScope, object::HasStatus},
};
use serde::{Serialize, de::DeserializeOwned};

use super::error::Error;

/// Writes a status. `false`: nothing that a reader could notice had changed, so nothing was sent.
pub async fn publish<K>(client: &Client, object: &K, next: K::Status) -> Result<bool, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + HasStatus,
    K: Clone + Debug + Serialize + DeserializeOwned,
    K::Status: PartialEq,
{
    if object.status() == Some(&next) {
        return Ok(false);
    }
    let namespace = object.namespace().ok_or(Error::Incomplete("namespace"))?;
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    let mut copy = object.clone();
    copy.meta_mut().managed_fields = None;
    *copy.status_mut() = Some(next);
    api.replace_status(&object.name_any(), &PostParams::default(), &copy).await.map_err(Error::api("a status"))?;
    Ok(true)
}
