//! Configuration. Later sources win: defaults, `/etc/agent-vm/config.yaml`, the user's file (or
//! `--config`), environment, flags.
//!
//! `sources` is the edge: it reads files, environment and host. `resolve` decides in pure code.
//! This module does not know the effect of a setting on a machine.

mod error;
mod file;
mod flags;
mod host;
mod keys;
mod origin;
mod resolve;
mod settings;
mod sources;
mod unknown_key;
mod value;

#[cfg(test)]
mod tests;

pub use error::{ConfigError, Problem};
pub use flags::SettingsArgs;
pub use host::HostDefaults;
pub use origin::Origin;
pub use resolve::{Loaded, Row};
pub use settings::{
    ByProfile, ExecutionSettings, LibvirtSettings, MetricsSettings, NodeSettings, PoolSettings,
    ResourceLimits, Settings, VmSettings,
};
pub use sources::{FlagValue, Flags, HOST_FILE, USER_FILE, load};
