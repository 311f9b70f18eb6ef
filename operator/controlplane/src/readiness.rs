//! Decides when a control plane is usable: the API server reports that it is ready (it has written
//! its first roles), and the namespace `default` exists.

use std::time::Duration;

use kube::config::{Config as ClientConfig, KubeConfigOptions, Kubeconfig, KubeconfigError};
use tokio::time::sleep;

const PAUSE: Duration = Duration::from_millis(50);
/// `/readyz` includes the hooks after the start, and one of them writes the first roles. The
/// namespaces are created separately.
const PROOFS: [&str; 2] = ["/readyz", "/api/v1/namespaces/default"];

/// A client configuration from the text of a kubeconfig.
pub async fn client_config(kubeconfig: &str) -> Result<ClientConfig, KubeconfigError> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
    ClientConfig::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await
}

/// Waits until the API is usable. The caller sets the deadline. `last` has the current reason for
/// the wait.
pub async fn ready(client: &kube::Client, last: &mut String) {
    for proof in PROOFS {
        while let Err(why) = ask(client, proof).await {
            *last = format!("{proof}: {why}");
            sleep(PAUSE).await;
        }
    }
}

async fn ask(client: &kube::Client, path: &str) -> Result<String, kube::Error> {
    let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    client.request_text(request).await
}
