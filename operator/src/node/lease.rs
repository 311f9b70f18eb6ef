//! The Lease of a node, as an object of the API server.

use std::time::Duration;

use agentvm_core::node::{LeaseTimes, Seen};
use agentvm_types::{NodeId, NodeName};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};

use super::Node;

/// The namespace of all node Leases. Every operator of a cluster must look at the same ones, so it
/// can't be configured.
pub const NAMESPACE: &str = "agentvm-system";
/// The host of the holder, for people.
const HOST: &str = "agentvm.dev/host";
/// The boot of the host, and the process: they tell a restart from a copy of the state folder.
const BOOT: &str = "agentvm.dev/boot";
const PROCESS: &str = "agentvm.dev/process";
/// The node that has noted that the holder is gone.
const OVER: &str = "agentvm.dev/over-noted-by";
/// The time limit of a request that nothing else limits.
const REQUEST: Duration = Duration::from_secs(10);

/// The node Leases of a namespace, for one node.
#[derive(Clone)]
pub struct Leases {
    api: Api<Lease>,
    client: Client,
    namespace: String,
    node: Node,
}

impl std::fmt::Debug for Leases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leases").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Leases {
    pub fn new(client: Client, node: Node) -> Self {
        let namespace = node.lease_namespace.clone();
        let api = Api::namespaced(client.clone(), &namespace);
        Self { api, client, namespace, node }
    }

    /// The Lease of this node's name, read live.
    pub async fn get(&self) -> Result<Option<Lease>, kube::Error> {
        within(REQUEST, self.api.get_opt(self.node.name.as_str())).await
    }

    /// All node Leases, read live.
    pub async fn list(&self) -> Result<Vec<Lease>, kube::Error> {
        Ok(within(REQUEST, self.api.list(&ListParams::default())).await?.items)
    }

    /// A new Lease of this node.
    pub async fn create(&self, now: Timestamp) -> Result<Lease, kube::Error> {
        let mut lease = Lease::default();
        lease.metadata.name = Some(self.node.name.to_string());
        self.sign(&mut lease, now);
        within(REQUEST, self.api.create(&PostParams::default(), &lease)).await
    }

    pub async fn create_namespace(&self) -> Result<(), kube::Error> {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(self.namespace.clone());
        let api: Api<Namespace> = Api::all(self.client.clone());
        match within(REQUEST, api.create(&PostParams::default(), &namespace)).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            done => done.map(|_| ()),
        }
    }

    /// Makes this node the holder, if nobody has changed the Lease since it was read.
    pub async fn take(&self, mut lease: Lease, now: Timestamp) -> Result<Lease, kube::Error> {
        self.sign(&mut lease, now);
        self.replace(&lease).await
    }

    /// Renews the Lease that this process holds.
    pub async fn renew(&self, mut lease: Lease, now: Timestamp) -> Result<Lease, kube::Error> {
        spec(&mut lease).renew_time = Some(MicroTime(now));
        self.replace(&lease).await
    }

    /// Notes that the holder is gone. From then on it can't renew any more.
    pub async fn note_over(&self, mut lease: Lease) -> Result<Lease, kube::Error> {
        lease.annotations_mut().insert(OVER.to_owned(), self.node.name.to_string());
        self.replace(&lease).await
    }

    pub async fn delete(&self, lease: &Lease) -> Result<(), kube::Error> {
        let same = Preconditions { uid: lease.uid(), resource_version: lease.resource_version() };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        within(REQUEST, self.api.delete(&lease.name_any(), &params)).await.map(|_| ())
    }

    /// Whether this very process holds it.
    pub fn is_mine(&self, lease: &Lease) -> bool {
        let process = lease.annotations().get(PROCESS);
        process == Some(&self.node.process) && !lease.annotations().contains_key(OVER)
    }

    /// Whether this node held it under another name.
    pub fn was_mine(&self, lease: &Lease) -> bool {
        let seen = seen(lease);
        seen.holder.as_ref() == Some(&self.node.id)
            && seen.name != self.node.name.as_str()
            && !seen.over
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, kube::Error> {
        let name = lease.name_any();
        within(REQUEST, self.api.replace(&name, &PostParams::default(), lease)).await
    }

    fn sign(&self, lease: &mut Lease, now: Timestamp) {
        lease.metadata.managed_fields = None;
        let annotations = lease.annotations_mut();
        annotations.remove(OVER);
        for (key, value) in
            [(HOST, &self.node.host), (BOOT, &self.node.boot), (PROCESS, &self.node.process)]
        {
            annotations.insert(key.to_owned(), value.clone());
        }
        let (id, seconds) = (self.node.id.to_string(), self.node.lease.seconds());
        let spec = spec(lease);
        if spec.holder_identity.as_ref() != Some(&id) {
            let before = spec.holder_identity.is_some();
            spec.lease_transitions =
                Some(spec.lease_transitions.unwrap_or(0).saturating_add(i32::from(before)));
            spec.acquire_time = Some(MicroTime(now));
        }
        spec.holder_identity = Some(id);
        spec.lease_duration_seconds = Some(seconds);
        spec.renew_time = Some(MicroTime(now));
    }
}

fn spec(lease: &mut Lease) -> &mut LeaseSpec {
    lease.spec.get_or_insert_default()
}

/// The Lease, as decisions see it.
pub fn seen(lease: &Lease) -> Seen {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(0);
    Seen {
        name: lease.name_any(),
        holder: spec.holder_identity.filter(|id| !id.is_empty()).map(NodeId::new),
        boot: lease.annotations().get(BOOT).cloned().unwrap_or_default(),
        version: lease.resource_version().unwrap_or_default(),
        times: LeaseTimes { duration: Duration::from_secs(seconds.max(1)) },
        over: lease.annotations().contains_key(OVER),
    }
}

/// The holder of a Lease, in words.
pub fn describe(lease: &Lease, name: &NodeName) -> String {
    let spec = lease.spec.clone().unwrap_or_default();
    let time = |time: Option<MicroTime>| {
        time.map_or_else(|| "unknown".to_owned(), |time| agentvm_core::calendar::text(time.0))
    };
    format!(
        "node name {name} is held by node id {} on host {} since {}, renewed {}",
        spec.holder_identity.unwrap_or_default(),
        lease.annotations().get(HOST).map_or("(unknown)", String::as_str),
        time(spec.acquire_time),
        time(spec.renew_time)
    )
}

/// kube has no time limit for an answer.
async fn within<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    let late = |_| {
        let why = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time");
        kube::Error::Service(Box::new(why))
    };
    tokio::time::timeout(limit, request).await.map_err(late).flatten()
}
