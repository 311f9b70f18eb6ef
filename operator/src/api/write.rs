//! The proof of a write. Without a live read no error becomes "not written".

use std::fmt::Debug;

use agentvm_core::write_proof::{Fate, Version, fate};
use kube::{Api, Resource, ResourceExt, core::object::HasStatus};
use serde::de::DeserializeOwned;

/// A write that certainly did not happen, and cannot happen any more. Only [`settle`] makes one,
/// from a live read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotWritten {
    gone: bool,
    refused: bool,
}

impl NotWritten {
    /// The object does not exist any more.
    pub fn object_is_gone(&self) -> bool {
        self.gone
    }

    /// The API server itself said that it refused the write. Otherwise the write may have happened,
    /// and another writer may have undone it before the live read.
    pub fn was_refused(&self) -> bool {
        self.refused
    }

    /// A proof for tests of code that asks for one.
    #[cfg(test)]
    pub fn proven_for_a_test(refused: bool) -> Self {
        Self { gone: false, refused }
    }
}

/// A write that the API server did not confirm.
#[derive(Debug)]
pub enum WriteError {
    NotWritten(NotWritten),
    /// The write may have happened, or may still happen.
    InDoubt(Box<kube::Error>),
}

/// Reads the object live after a write of its status that was not confirmed. `Ok`: the write has
/// happened.
pub async fn settle<K>(
    api: &Api<K>,
    base: &K,
    wanted: &K::Status,
    answer: kube::Error,
) -> Result<(), WriteError>
where
    K: Resource<DynamicType = ()> + HasStatus + Clone + Debug + DeserializeOwned,
    K::Status: PartialEq,
{
    // Without a resource version the answer comes from a quorum of the store.
    let live = match api.get_opt(&base.name_any()).await {
        Ok(live) => live,
        Err(why) => {
            tracing::debug!(error = &why as &dyn std::error::Error, "no live read after a write");
            return Err(WriteError::InDoubt(Box::new(answer)));
        }
    };
    let seen = live.as_ref().map(|live| (version(live), live.status() == Some(wanted)));
    match fate(&version(base), seen.as_ref().map(|(version, has)| (version, *has))) {
        Fate::Written => {
            let name = base.name_any();
            tracing::info!(kind = %K::kind(&()), name,
                "a write was not confirmed ({answer}), but the object has it");
            Ok(())
        }
        Fate::NotWritten { gone } => {
            Err(WriteError::NotWritten(NotWritten { gone, refused: is_refusal(&answer) }))
        }
        Fate::Open => Err(WriteError::InDoubt(Box::new(answer))),
    }
}

/// Whether the API server answered that it did not carry the request out.
fn is_refusal(answer: &kube::Error) -> bool {
    matches!(answer, kube::Error::Api(status) if (400..500).contains(&status.code)
        && status.code != 408)
}

fn version(object: &impl Resource) -> Version {
    Version {
        uid: object.meta().uid.clone().unwrap_or_default(),
        resource_version: object.meta().resource_version.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn only_a_word_of_the_api_server_about_the_request_is_a_refusal() {
        let said = |code| kube::Error::Api(Box::new(Status { code, ..Status::default() }));
        assert!([400, 404, 409, 422, 429].into_iter().all(|code| is_refusal(&said(code))));
        assert!(![408, 500, 502, 503, 504].into_iter().any(|code| is_refusal(&said(code))));
        assert!(!is_refusal(&kube::Error::Service("cut".into())));
    }
}
