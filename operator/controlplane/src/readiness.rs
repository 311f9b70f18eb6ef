//! When a control plane may be used: the API server says that it is ready (its first roles written included), and
//! the namespace `default` exists.

use std::time::Duration;

use kube::config::{Config as ClientConfig, KubeConfigOptions, Kubeconfig, KubeconfigError};
use tokio::time::sleep;

const PAUSE: Duration = Duration::from_millis(50);
/// `/readyz` holds the hooks after start, of which one writes the first roles; the namespaces come on their own.
const PROOFS: [&str; 2] = ["/readyz", "/api/v1/namespaces/default"];

/// A client configuration from the text of a kubeconfig.
pub async fn client_config(kubeconfig: &str) -> Result<ClientConfig, KubeconfigError> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
    ClientConfig::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await
}

/// Waits until the API can be used; the caller sets the deadline. Says in `last` what it still waits for.
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
