//! The identity of the cluster: the UID of its namespace `kube-system`.

use std::time::Duration;

use agentvm_types::report;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use tokio::time::{sleep, timeout};

/// A new API server makes the namespace within a moment.
const TRIES: u32 = 30;
const AGAIN: Duration = Duration::from_secs(1);
const REQUEST: Duration = Duration::from_secs(10);

/// The cluster can't be identified, so nothing of it can be told from the things of another one.
#[derive(Debug, thiserror::Error)]
#[error(
    "the cluster can't be identified: {why}; the operator must be allowed to get the namespace \
     kube-system"
)]
pub struct UnknownCluster {
    why: String,
}

/// Asks until there is an answer.
pub async fn id(client: &Client) -> Result<String, UnknownCluster> {
    let api: Api<Namespace> = Api::all(client.clone());
    let mut why = String::new();
    for _ in 0..TRIES {
        match timeout(REQUEST, api.get_opt("kube-system")).await {
            Ok(Ok(Some(Namespace { metadata, .. }))) => {
                if let Some(uid) = metadata.uid {
                    return Ok(uid);
                }
                "it has no UID".clone_into(&mut why);
            }
            Ok(Ok(None)) => "there is no namespace kube-system".clone_into(&mut why),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                return Err(UnknownCluster { why: status.message.clone() });
            }
            Ok(Err(error)) => why = report(&error),
            Err(_) => "no answer in time".clone_into(&mut why),
        }
        sleep(AGAIN).await;
    }
    Err(UnknownCluster { why })
}
