//! The command lines of the three programs, as data.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::Component;
use crate::certificates::Pki;
use crate::config::{Config, Durability};
use crate::layout::DataLayout;
use crate::ports::Ports;

/// The address that Kubernetes gives to the service `kubernetes`: the first address of the range
/// for services.
pub const API_SERVICE_ADDRESS: &str = "10.0.0.1";
/// The controllers that a host without nodes, pods and services needs: what the API accepts must
/// also work there. Each costs memory, so the others stay off.
const CONTROLLERS: [&str; 4] = [
    "garbage-collector-controller",
    "namespace-controller",
    // Counts runs against a ResourceQuota.
    "resourcequota-controller",
    // Puts the roles for agentvm's kinds into Kubernetes' own `view`, `edit` and `admin`.
    "clusterrole-aggregation-controller",
];
const SERVICE_RANGE: &str = "10.0.0.0/24";

/// The command of a component, and the file for its output.
#[derive(Clone, Debug)]
pub struct CommandLine {
    pub component: Component,
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub folder: PathBuf,
    pub log: PathBuf,
}

/// Makes command lines for one configuration.
#[derive(Debug)]
pub struct Commands<'a> {
    pub config: &'a Config,
    pub layout: &'a DataLayout,
    pub pki: &'a Pki,
    pub ports: Ports,
}

impl Commands<'_> {
    pub fn of(&self, component: Component) -> CommandLine {
        let arguments = match component {
            Component::Etcd => self.etcd(),
            Component::ApiServer => self.api_server(),
            Component::ControllerManager => self.controller_manager(),
        };
        CommandLine {
            component,
            program: self.config.binaries.path(component).to_owned(),
            arguments,
            folder: self.layout.root().to_owned(),
            log: self.layout.log(component),
        }
    }

    fn etcd(&self) -> Vec<OsString> {
        let client = format!("https://127.0.0.1:{}", self.ports.etcd);
        // etcd wants an address for its peers, although one member has no peers. The kernel chooses
        // a port at each start.
        let peer = "https://127.0.0.1:0";
        let pki = self.pki;
        let (identity, authority) = (pki.etcd_server.file(), pki.etcd_ca.certificate_file());
        let mut arguments = vec![
            text("--name=agentvm"),
            path("--data-dir", &self.layout.etcd()),
            text(format!("--listen-client-urls={client}")),
            text(format!("--advertise-client-urls={client}")),
            text(format!("--listen-peer-urls={peer}")),
            text(format!("--initial-advertise-peer-urls={peer}")),
            text(format!("--initial-cluster=agentvm={peer}")),
            text("--client-cert-auth=true"),
            path("--trusted-ca-file", authority),
            path("--cert-file", identity),
            path("--key-file", identity),
            text("--peer-client-cert-auth=true"),
            path("--peer-trusted-ca-file", authority),
            path("--peer-cert-file", identity),
            path("--peer-key-file", identity),
            // The housekeeper uses it, with the API server's certificate; etcd wants one there too.
            text("--enable-grpc-gateway=true"),
            text(format!("--quota-backend-bytes={}", self.config.store_quota_bytes)),
            // A snapshot after this number of writes bounds etcd's memory. It suffices for the
            // objects of one host.
            text("--snapshot-count=5000"),
            text("--max-snapshots=1"),
            text("--max-wals=1"),
            text("--log-level=warn"),
        ];
        if self.config.durability == Durability::UnsafeNoFsync {
            arguments.push(text("--unsafe-no-fsync"));
        }
        arguments
    }

    fn api_server(&self) -> Vec<OsString> {
        let pki = self.pki;
        vec![
            text(format!("--etcd-servers=https://127.0.0.1:{}", self.ports.etcd)),
            path("--etcd-cafile", pki.etcd_ca.certificate_file()),
            path("--etcd-certfile", pki.etcd_client.file()),
            path("--etcd-keyfile", pki.etcd_client.file()),
            text("--bind-address=127.0.0.1"),
            text("--advertise-address=127.0.0.1"),
            // An Endpoints object must not hold a loopback address, and no part of this system
            // reads one.
            text("--endpoint-reconciler-type=none"),
            text(format!("--secure-port={}", self.ports.api_server)),
            path("--tls-cert-file", pki.api_server.file()),
            path("--tls-private-key-file", pki.api_server.file()),
            path("--client-ca-file", pki.kubernetes_ca.certificate_file()),
            text("--anonymous-auth=false"),
            text("--authorization-mode=RBAC"),
            text(format!("--service-cluster-ip-range={SERVICE_RANGE}")),
            text("--service-account-issuer=https://kubernetes.default.svc.cluster.local"),
            path("--service-account-key-file", &pki.service_account_public_key),
            path("--service-account-signing-key-file", &pki.service_account_key),
            text("--profiling=false"),
        ]
    }

    fn controller_manager(&self) -> Vec<OsString> {
        vec![
            path("--kubeconfig", &self.layout.controller_manager_kubeconfig()),
            text(format!("--controllers={}", CONTROLLERS.join(","))),
            // Each controller gets only the rights of its own role.
            text("--use-service-account-credentials=true"),
            text("--leader-elect=false"),
            // It serves no port, because no part asks it.
            text("--secure-port=0"),
            text("--profiling=false"),
        ]
    }
}

fn text(argument: impl Into<String>) -> OsString {
    argument.into().into()
}

/// A path may contain bytes that are not text.
fn path(name: &str, value: &Path) -> OsString {
    let mut argument = OsString::from(name);
    argument.push("=");
    argument.push(value);
    argument
}
