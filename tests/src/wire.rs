//! The client of an operator under test. It sees one namespace, and it notes every request. Faults
//! that a test plans happen at its [`Border`].
//!
//! Operators watch all namespaces. Tests that run side by side on one API server must not see each
//! other's objects. Therefore a request about the whole cluster becomes a request about the test's
//! namespace. Nothing else changes on the way.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use agentvm_operator::api::{TimeLimits, client_across};
use http::Method;
use kube::Client;
use kube::client::Body;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use tower::layer::util::Stack;
use tower::util::MapRequestLayer;

use crate::{Border, Error};

const OUR_GROUP: &str = "/apis/agentvm.dev/v1alpha1/";

/// A request that an operator sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub method: Method,
    /// The path without the query.
    pub path: String,
}

impl Sent {
    /// Was the request meant to change something?
    pub fn writes(&self) -> bool {
        self.method != Method::GET
    }
}

/// All requests of an operator.
#[derive(Clone, Debug, Default)]
pub struct Wire {
    sent: Arc<Mutex<Vec<Sent>>>,
    /// The faults that a test plans.
    pub border: Border,
}

impl Wire {
    /// The requests so far that were meant to change something. The renewals of the node's Lease
    /// are not among them: they come by the clock.
    pub fn writes(&self) -> Vec<Sent> {
        let all = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let news = |sent: &&Sent| sent.writes() && !sent.path.contains("/leases");
        all.iter().filter(news).cloned().collect()
    }

    /// All requests so far.
    pub fn all(&self) -> Vec<Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, method: &Method, path: &str) {
        let sent = Sent { method: method.clone(), path: path.to_owned() };
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(sent);
    }
}

/// A client for an operator that sees only `namespace`.
pub async fn operator_client(
    kubeconfig: &Path,
    namespace: &str,
    limits: TimeLimits,
) -> Result<(Client, Wire), Error> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let wire = Wire::default();
    let (notes, namespace) = (wire.clone(), namespace.to_owned());
    let layer = MapRequestLayer::new(move |request: http::Request<Body>| {
        notes.note(request.method(), request.uri().path());
        confine(request, &namespace)
    });
    let layer = Stack::new(wire.border.clone(), layer);
    Ok((client_across(config, limits, &layer)?, wire))
}

fn confine(mut request: http::Request<Body>, namespace: &str) -> http::Request<Body> {
    let old = request.uri().clone();
    let Some(plural) = old.path().strip_prefix(OUR_GROUP).filter(|rest| !rest.contains('/')) else {
        return request;
    };
    let query = old.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = old.clone().into_parts();
    parts.path_and_query =
        format!("{OUR_GROUP}namespaces/{namespace}/{plural}{query}").parse().ok();
    if let Ok(uri) = http::Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}
