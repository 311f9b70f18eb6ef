//! The sources of the configuration: two files, the environment, the flags, this host.

use std::path::{Path, PathBuf};

use super::resolve::{Given, Loaded, resolve};
use super::{ConfigError, HostDefaults, file};

/// The host's file; it may be missing.
pub const HOST_FILE: &str = "/etc/agent-vm/config.yaml";
/// The user's file, below the home directory; it may be missing.
pub const USER_FILE: &str = ".config/agent-vm/config.yaml";

/// A setting from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagValue {
    /// The key, e.g. `pool.min_size`.
    pub key: &'static str,
    /// The flag, e.g. `--pool-min-size`.
    pub flag: &'static str,
    pub text: String,
}

/// The command line's part of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config`: this file is read in place of the user's file, and must exist.
    pub config_file: Option<PathBuf>,
    pub values: Vec<FlagValue>,
    /// Replaces the default of `execution.workspace_path` (`standalone` keeps it in its data
    /// directory).
    pub default_workspace: Option<PathBuf>,
}

/// Reads all sources and resolves them.
pub fn load(flags: &Flags) -> Result<Loaded, ConfigError> {
    let mut files = Vec::new();
    files.extend(file::read(Path::new(HOST_FILE), file::Absent::Fine)?);
    if let Some(given) = &flags.config_file {
        files.extend(file::read(given, file::Absent::Refused)?);
    } else if let Some(home) = std::env::var_os("HOME").filter(|home| !home.is_empty()) {
        files.extend(file::read(&Path::new(&home).join(USER_FILE), file::Absent::Fine)?);
    }
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        })
        .collect();
    resolve(&Given { files, environment, flags, host: HostDefaults::observe() })
}
