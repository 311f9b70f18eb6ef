//! Finds the programs of the control plane. A place counts only if it has all of them. Otherwise
//! etcd of one release could run with the API server of another release by accident.

use std::env;
use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::Component;

const DEFAULT_CACHE: &str = "/var/cache/agentvm";
const KUBECTL: &str = "kubectl";

/// The programs of one control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    pub etcd: PathBuf,
    pub api_server: PathBuf,
    pub controller_manager: PathBuf,
    /// For people only. The control plane does not use it.
    pub kubectl: Option<PathBuf>,
}

impl Binaries {
    /// Searches only `dir`, if it is given (`--control-plane-dir`). Otherwise searches
    /// `KUBEBUILDER_ASSETS`, the `PATH`, and the cache that `make controlplane` fills.
    pub fn find(dir: Option<&Path>) -> Result<Self, BinariesError> {
        Self::find_in(&Places::from_environment(dir))
    }

    /// The path of one program.
    pub fn path(&self, component: Component) -> &Path {
        match component {
            Component::Etcd => &self.etcd,
            Component::ApiServer => &self.api_server,
            Component::ControllerManager => &self.controller_manager,
        }
    }

    fn find_in(places: &Places) -> Result<Self, BinariesError> {
        let mut looked = Vec::new();
        for place in places.in_order() {
            match Self::in_folders(&place.folders) {
                Ok(found) => return Ok(found),
                Err(missing) => looked.push(Looked { place: place.name, missing }),
            }
        }
        Err(BinariesError { looked })
    }

    /// The programs, each from the first folder that has it; or the names of the programs that are
    /// in no folder.
    fn in_folders(folders: &[PathBuf]) -> Result<Self, Vec<&'static str>> {
        let find = |name: &str| {
            folders.iter().map(|folder| folder.join(name)).find(|path| is_executable(path))
        };
        match (
            find(Component::Etcd.program()),
            find(Component::ApiServer.program()),
            find(Component::ControllerManager.program()),
        ) {
            (Some(etcd), Some(api_server), Some(controller_manager)) => {
                Ok(Self { etcd, api_server, controller_manager, kubectl: find(KUBECTL) })
            }
            (etcd, api_server, controller_manager) => Err([
                (Component::Etcd, etcd),
                (Component::ApiServer, api_server),
                (Component::ControllerManager, controller_manager),
            ]
            .into_iter()
            .filter(|(_, path)| path.is_none())
            .map(|(component, _)| component.program())
            .collect()),
        }
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// No place has a complete control plane.
#[derive(Debug)]
pub struct BinariesError {
    looked: Vec<Looked>,
}

#[derive(Debug)]
struct Looked {
    place: String,
    missing: Vec<&'static str>,
}

impl fmt::Display for BinariesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "found no complete control plane (etcd, kube-apiserver, kube-controller-manager); \
             looked in:"
        )?;
        for Looked { place, missing } in &self.looked {
            write!(f, "\n  {place}: no {}", missing.join(", no "))?;
        }
        write!(
            f,
            "\nbuild one with `make controlplane`, or name their folder with --control-plane-dir"
        )
    }
}

impl std::error::Error for BinariesError {}

/// The places to search, from the environment.
#[derive(Debug, Default)]
struct Places {
    dir: Option<PathBuf>,
    kubebuilder_assets: Option<PathBuf>,
    path: OsString,
    cache: PathBuf,
}

struct Place {
    name: String,
    folders: Vec<PathBuf>,
}

impl Places {
    fn from_environment(dir: Option<&Path>) -> Self {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        Self {
            dir: dir.map(Path::to_owned),
            kubebuilder_assets: set("KUBEBUILDER_ASSETS").map(PathBuf::from),
            path: set("PATH").unwrap_or_default(),
            cache: set("AGENTVM_CACHE")
                .map_or_else(|| DEFAULT_CACHE.into(), PathBuf::from)
                .join("controlplane"),
        }
    }

    fn in_order(&self) -> Vec<Place> {
        if let Some(dir) = &self.dir {
            return vec![Place {
                name: format!("--control-plane-dir {}", dir.display()),
                folders: vec![dir.clone()],
            }];
        }
        let mut places = Vec::new();
        if let Some(dir) = &self.kubebuilder_assets {
            places.push(Place {
                name: format!("KUBEBUILDER_ASSETS {}", dir.display()),
                folders: vec![dir.clone()],
            });
        }
        places.push(Place { name: "PATH".into(), folders: env::split_paths(&self.path).collect() });
        let cached = cached_builds(&self.cache);
        if cached.is_empty() {
            places.push(Place { name: format!("{}/", self.cache.display()), folders: Vec::new() });
        }
        places.extend(
            cached
                .into_iter()
                .map(|dir| Place { name: dir.display().to_string(), folders: vec![dir] }),
        );
        places
    }
}

/// The builds in the cache: first the build for the versions that this program was compiled with,
/// then the newest.
fn cached_builds(cache: &Path) -> Vec<PathBuf> {
    let own = build_key();
    let mut builds: Vec<(bool, SystemTime, PathBuf)> = fs::read_dir(cache)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        // A leading dot marks an unfinished build.
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .filter_map(|entry| {
            let modified = entry.metadata().and_then(|meta| meta.modified()).ok()?;
            Some((entry.file_name() == own.as_str(), modified, entry.path()))
        })
        .collect();
    builds.sort_by(|a, b| b.cmp(a));
    builds.into_iter().map(|(_, _, path)| path).collect()
}

/// The name of the result of the script `build`: the hash of all inputs that decide its content.
fn build_key() -> String {
    let mut hash = Sha256::new();
    hash.update(include_bytes!("../go.mod"));
    hash.update(include_bytes!("../go.sum"));
    hash.update(include_bytes!("../build"));
    hash.finalize().iter().take(8).fold(String::new(), |mut key, byte| {
        let _ = write!(key, "{byte:02x}");
        key
    })
}

#[cfg(test)]
mod tests;
