//! The parts of this host that jobs use. A job that needs few of them takes only those.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentvm_files::make_trusted;

use super::at_work::AtWork;
use super::facts::FactsProbe;
use super::nat_network::NatNetwork;
use super::nwfilter::Filters;
use crate::HvError;
use crate::files::io;
use crate::firewall::Firewall;
use crate::libvirt::connection::config::LibvirtConfig;
use crate::libvirt::connection::silence::Monitors;
use crate::libvirt::qemu::preload;
use crate::libvirt::qemu::users::{MachineUsers, uids};
use crate::libvirt::store::state_folder::StateFolder;
use crate::locks::Locks;
use crate::workspace::share;

#[derive(Debug)]
pub struct Host {
    pub config: LibvirtConfig,
    pub folder: StateFolder,
    pub users: MachineUsers,
    pub locks: Locks,
    pub firewall: Arc<Firewall>,
    pub network: NatNetwork,
    pub filters: Filters,
    pub at_work: AtWork,
    pub monitors: Monitors,
    pub facts: FactsProbe,
    /// The preload library where QEMU can read it, or the reason why there is none.
    pub preload: Result<PathBuf, String>,
}

impl Host {
    /// Makes the state directory and checks that QEMU can use it.
    pub fn prepare(config: LibvirtConfig) -> Result<Self, HvError> {
        if !rustix::process::geteuid().is_root() {
            return Err(HvError::Refused {
                what: "prepare the host for machines".to_owned(),
                detail: "it takes root to mount shares and to hand files to QEMU's user; \
                         run agentvm as root"
                    .to_owned(),
            });
        }
        let folder = make_state_folder(&config.state_dir)?;
        let users = MachineUsers::prepare(&folder, config.first_uid)?;
        share::propagate(&folder.machines())?;
        let firewall = Firewall::confining(&config.instance, config.first_uid.map(uids::block));
        let gateway_mac = firewall.gateway_mac();
        Ok(Self {
            users,
            locks: Locks::default(),
            firewall: Arc::new(firewall),
            network: NatNetwork::new(config.instance.clone(), gateway_mac),
            filters: Filters::new(config.instance.clone(), gateway_mac, config.filter),
            at_work: AtWork::default(),
            monitors: Monitors::start(config.monitor_timeout).map_err(|source| HvError::Io {
                what: "start the thread that watches QEMUs".to_owned(),
                source,
            })?,
            facts: FactsProbe::new(&config, &folder),
            preload: preload::install(config.preload.as_deref(), &folder),
            folder,
            config,
        })
    }
}

/// Makes the state directory. Its path must leave room for the names of sockets.
fn make_state_folder(root: &Path) -> Result<StateFolder, HvError> {
    for folder in [root.to_owned(), root.join("machines"), root.join("golden")] {
        make_trusted(&folder, 0o711)
            .map_err(HvError::failed(format!("use the folder {}", folder.display())))?;
    }
    let root = root.canonicalize().map_err(io("find", root))?;
    let folder = StateFolder::new(root.clone());
    match folder.too_long_by() {
        0 => Ok(folder),
        extra => Err(HvError::Refused {
            what: format!("keep machines in {}", root.display()),
            detail: format!(
                "the path is {extra} characters too long for sockets; choose a shorter one"
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    use agentvm_core::names::InstanceId;
    use agentvm_types::report;

    use super::*;

    fn refusal(dir: std::path::PathBuf) -> String {
        Host::prepare(LibvirtConfig::new(dir, InstanceId::for_state_dir("/x")))
            .unwrap_err()
            .to_string()
    }

    #[test]
    #[cfg_attr(
        not(feature = "host-tests"),
        ignore = "needs root and programs of the host: make test-host"
    )]
    fn a_folder_that_cannot_serve_is_refused_with_the_mend() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let long = refusal(dir.path().join("long-".repeat(12)));
        assert!(long.contains("choose a shorter one"), "{long}");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let closed = refusal(dir.path().join("x"));
        assert!(closed.contains("chmod o+x"), "{closed}");
    }
    #[test]
    #[cfg_attr(
        not(feature = "host-tests"),
        ignore = "needs root and programs of the host: make test-host"
    )]
    fn a_folder_that_another_user_prepared_is_refused_wherever_it_is_on_the_way() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let (theirs, ours) = (dir.path().join("theirs"), dir.path().join("ours"));
        fs::create_dir(&theirs).unwrap();
        chown(&theirs, Some(4711), None).unwrap();
        let refused = |path: &Path| report(&make_state_folder(path).unwrap_err());
        let said = refused(&theirs);
        assert!(said.contains("4711") && said.contains("chown 0 "), "{said}");
        assert!(refused(&theirs.join("below")).contains("4711"));
        fs::create_dir(&ours).unwrap();
        let link = dir.path().join("link");
        symlink(&ours, &link).unwrap();
        make_state_folder(&link).unwrap();
        lchown(&link, Some(4711), None).unwrap();
        assert!(refused(&link).contains("4711"), "they could let it lead elsewhere");
        fs::set_permissions(&ours, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(refused(&ours).contains("chmod go-w"));
        assert!(refused(&ours.join("below")).contains("chmod go-w"));
    }
}
