//! The certificates of one control plane. They are made once, kept in `pki/`, and renewed in time.
//!
//! ```text
//!   etcd-ca ──────┬─ etcd-server        the API server trusts etcd by it
//!                 └─ etcd-client        etcd trusts the API server by it, and no other client
//!   kubernetes-ca ┬─ api-server         clients trust the API server by it
//!                 ├─ admin              system:masters
//!                 └─ controller-manager
//! ```
//!
//! There are two authorities, because etcd obeys every client whose certificate its authority has
//! signed. So no certificate of the API opens etcd.

mod authority;
mod identity;
mod validity;

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rcgen::{ExtendedKeyUsagePurpose, KeyPair};

use crate::private_files;
pub use authority::Authority;
pub use identity::Identity;
use identity::Profile;

/// All keys and certificates, loaded or made.
#[derive(Debug)]
pub struct Pki {
    pub etcd_ca: Authority,
    pub etcd_server: Identity,
    pub etcd_client: Identity,
    pub kubernetes_ca: Authority,
    pub api_server: Identity,
    pub admin: Identity,
    pub controller_manager: Identity,
    /// Signs the tokens of service accounts.
    pub service_account_key: PathBuf,
    /// Verifies these tokens.
    pub service_account_public_key: PathBuf,
}

/// A certificate or key could not be made or kept.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("could not read or write {}; give agentvm a data folder that it may \
             write to", path.display())]
    File {
        path: PathBuf,
        #[source]
        why: io::Error,
    },
    #[error("could not make {what}; delete {}, and agentvm makes it again", path.display())]
    Sign {
        what: &'static str,
        path: PathBuf,
        #[source]
        why: rcgen::Error,
    },
}

const SERVER: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ServerAuth;
const CLIENT: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ClientAuth;

const LOOPBACK: &[&str] = &["localhost", "127.0.0.1", "::1"];
/// Loopback, and the names by which Kubernetes' own clients know an API server.
const API_SERVER_NAMES: &[&str] = &[
    "localhost",
    "127.0.0.1",
    "::1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    crate::commands::API_SERVICE_ADDRESS,
];

impl Pki {
    /// Loads the content of `folder`, and makes all parts that are missing, unreadable or about to
    /// expire.
    pub fn load_or_issue(folder: &Path, now: SystemTime) -> Result<Self, PkiError> {
        private_files::private_dir(folder)
            .map_err(|why| PkiError::File { path: folder.into(), why })?;
        let etcd_ca = Authority::load_or_create(folder, "etcd-ca", now)?;
        let kubernetes_ca = Authority::load_or_create(folder, "kubernetes-ca", now)?;
        let service_account = service_account_keys(folder)?;
        let etcd_server = Profile {
            name: "etcd-server",
            common_name: "agentvm etcd",
            organization: None,
            names: LOOPBACK,
            // etcd is a client of itself: its gateway and its peers connect to it.
            usages: &[SERVER, CLIENT],
        };
        let etcd_client = Profile::client("etcd-client", "agentvm kube-apiserver", None);
        let api_server = Profile {
            name: "api-server",
            common_name: "agentvm kube-apiserver",
            organization: None,
            names: API_SERVER_NAMES,
            usages: &[SERVER],
        };
        let admin = Profile::client("admin", "agentvm-admin", Some("system:masters"));
        let controller_manager =
            Profile::client("controller-manager", "system:kube-controller-manager", None);
        Ok(Self {
            etcd_server: Identity::load_or_issue(folder, &etcd_ca, &etcd_server, now)?,
            etcd_client: Identity::load_or_issue(folder, &etcd_ca, &etcd_client, now)?,
            api_server: Identity::load_or_issue(folder, &kubernetes_ca, &api_server, now)?,
            admin: Identity::load_or_issue(folder, &kubernetes_ca, &admin, now)?,
            controller_manager: Identity::load_or_issue(
                folder,
                &kubernetes_ca,
                &controller_manager,
                now,
            )?,
            etcd_ca,
            kubernetes_ca,
            service_account_key: service_account.0,
            service_account_public_key: service_account.1,
        })
    }
}

/// The key pair for tokens. It is kept for good, because a new pair would invalidate all tokens.
fn service_account_keys(folder: &Path) -> Result<(PathBuf, PathBuf), PkiError> {
    let private = folder.join("service-account.key");
    let public = folder.join("service-account.pub");
    let sign =
        |why| PkiError::Sign { what: "the service accounts' key", path: private.clone(), why };
    let key = match read(&private)? {
        Some(pem) => KeyPair::from_pem(&pem).map_err(sign)?,
        None => KeyPair::generate().map_err(sign)?,
    };
    write(&private, &key.serialize_pem())?;
    write(&public, &key.public_key_pem())?;
    Ok((private, public))
}

fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(PkiError::File { path: path.into(), why }),
    }
}

fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    private_files::write_private(path, text.as_bytes())
        .map_err(|why| PkiError::File { path: path.into(), why })
}

#[cfg(test)]
mod tests;
