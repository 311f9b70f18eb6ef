//! Makes everything that the data folder must contain before a child starts.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::Component;
use crate::certificates::{Pki, PkiError};
use crate::commands::{CommandLine, Commands};
use crate::config::Config;
use crate::kubeconfig;
use crate::layout::DataLayout;
use crate::machine;
use crate::ports::{self, Ports};
use crate::private_files;

/// A precondition of the start is missing.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("cannot write {}; name a data folder that this user may write to, on a disk with free \
             space", path.display())]
    NotWritable {
        path: PathBuf,
        #[source]
        why: io::Error,
    },
    #[error("no free port on 127.0.0.1 between 20000 and 29999; end the programs that use them")]
    NoPort,
    #[error("{} isn't a program for this machine; build one with `make \
             controlplane`", program.display())]
    Foreign { program: PathBuf },
    #[error("cannot read {}; build it with `make controlplane`", program.display())]
    Unreadable {
        program: PathBuf,
        #[source]
        why: io::Error,
    },
    #[error("could not prepare the control plane's certificates")]
    Pki(#[source] PkiError),
}

/// The parts of a control plane that is ready to start.
#[derive(Debug)]
pub struct Prepared {
    pub kubeconfig_path: PathBuf,
    pub kubeconfig: String,
    /// The way to the store, in the form of a kubeconfig.
    pub store_access: String,
    pub etcd: CommandLine,
    pub api_server: CommandLine,
    pub controller_manager: CommandLine,
}

/// Makes folders, certificates and kubeconfigs, and chooses ports. If `attempt` is above 0, the
/// last ports were taken.
pub fn prepare(config: &Config, attempt: u32) -> Result<Prepared, PrepareError> {
    for component in [Component::Etcd, Component::ApiServer, Component::ControllerManager] {
        check_program(config.binaries.path(component))?;
    }
    // The children run in the data folder, and get absolute paths.
    let root = std::path::absolute(&config.data_dir)
        .map_err(|why| PrepareError::NotWritable { path: config.data_dir.clone(), why })?;
    let layout = DataLayout::new(root);
    for folder in [layout.pki(), layout.etcd(), layout.logs()] {
        private_files::private_dir(&folder).map_err(not_writable(&folder))?;
    }
    let pki = Pki::load_or_issue(&layout.pki(), SystemTime::now()).map_err(PrepareError::Pki)?;
    let ports = choose_ports(config, &layout, attempt)?;

    let admin = kubeconfig::render(ports.api_server, &pki.kubernetes_ca, &pki.admin);
    let manager = kubeconfig::render(ports.api_server, &pki.kubernetes_ca, &pki.controller_manager);
    write(&layout.kubeconfig(), &admin)?;
    write(&layout.controller_manager_kubeconfig(), &manager)?;

    let commands = Commands { config, layout: &layout, pki: &pki, ports };
    Ok(Prepared {
        kubeconfig_path: layout.kubeconfig(),
        kubeconfig: admin,
        store_access: kubeconfig::render(ports.etcd, &pki.etcd_ca, &pki.etcd_client),
        etcd: commands.of(Component::Etcd),
        api_server: commands.of(Component::ApiServer),
        controller_manager: commands.of(Component::ControllerManager),
    })
}

fn check_program(program: &Path) -> Result<(), PrepareError> {
    match machine::is_foreign(program) {
        Ok(false) => Ok(()),
        Ok(true) => Err(PrepareError::Foreign { program: program.to_owned() }),
        Err(why) => Err(PrepareError::Unreadable { program: program.to_owned(), why }),
    }
}

fn choose_ports(config: &Config, layout: &DataLayout, attempt: u32) -> Result<Ports, PrepareError> {
    let path = layout.ports();
    let seed = seed(&config.data_dir).wrapping_add(attempt);
    let ports = Ports::choose(Ports::load(&path), config.preferred_port, seed, ports::is_free)
        .ok_or(PrepareError::NoPort)?;
    ports.save(&path).map_err(not_writable(&path))?;
    Ok(ports)
}

/// Depends on process and folder. Two control planes, also in one process, then look for ports in
/// different places. Neither takes the port that the other one is about to use again.
fn seed(data_dir: &Path) -> u32 {
    let mut hash = DefaultHasher::new();
    (std::process::id(), data_dir).hash(&mut hash);
    u32::try_from(hash.finish() >> 32).unwrap_or_default()
}

fn write(path: &Path, text: &str) -> Result<(), PrepareError> {
    private_files::write_private(path, text.as_bytes()).map_err(not_writable(path))
}

fn not_writable(path: &Path) -> impl FnOnce(io::Error) -> PrepareError {
    let path = path.to_owned();
    move |why| PrepareError::NotWritable { path, why }
}
