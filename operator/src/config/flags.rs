//! Flags that set a key of the configuration. Every subcommand that reads the configuration has
//! them.

// `--help` prints these comments on a terminal, where backticks around each name would disturb.
#![allow(clippy::doc_markdown)]

use std::path::Path;

use clap::Args;

use super::{FlagValue, Flags};

/// Flags that set a key of the configuration. A flag wins over files and environment.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Settings")]
pub struct SettingsArgs {
    /// libvirt.uri: the libvirt that runs the machines. [environment: LIBVIRT_DEFAULT_URI] [default: qemu:///system]
    #[arg(long, value_name = "URI")]
    pub libvirt_uri: Option<String>,
    /// vm.network_mode: mode of pools that name no mode: nat_filtered, isolated, bridge.
    /// [environment: AGENT_VM_NETWORK_MODE]
    #[arg(long, value_name = "MODE")]
    pub network_mode: Option<String>,
    /// vm.default_profile: profile of goldens that name no profile: light, standard, intensive.
    #[arg(long, value_name = "PROFILE")]
    pub default_profile: Option<String>,
    /// pool.min_size: ready machines of pools that name no number. [environment:
    /// AGENT_VM_POOL_MIN_SIZE]
    #[arg(long, value_name = "N")]
    pub pool_min_size: Option<String>,
    /// pool.max_size: most machines of pools that name no maximum. [environment:
    /// AGENT_VM_POOL_MAX_SIZE]
    #[arg(long, value_name = "N")]
    pub pool_max_size: Option<String>,
    /// execution.default_timeout: seconds for runs that name no timeout. [environment:
    /// AGENT_VM_EXEC_TIMEOUT]
    #[arg(long, value_name = "SECONDS")]
    pub exec_timeout: Option<String>,
    /// execution.workspace_path: the folder for the output of runs.
    #[arg(long, value_name = "DIR")]
    pub workspace_path: Option<String>,
    /// metrics.listen: the address of /metrics for Prometheus: ADDRESS:PORT, or off. [environment:
    /// AGENT_VM_METRICS_LISTEN] [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_listen: Option<String>,
    /// node.name: the name of this host in statuses and node Leases. [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
}

impl SettingsArgs {
    /// The command line's part of the configuration.
    pub fn flags(&self, config_file: Option<&Path>) -> Flags {
        let given = [
            ("libvirt.uri", "--libvirt-uri", &self.libvirt_uri),
            ("vm.network_mode", "--network-mode", &self.network_mode),
            ("vm.default_profile", "--default-profile", &self.default_profile),
            ("pool.min_size", "--pool-min-size", &self.pool_min_size),
            ("pool.max_size", "--pool-max-size", &self.pool_max_size),
            ("execution.default_timeout", "--exec-timeout", &self.exec_timeout),
            ("execution.workspace_path", "--workspace-path", &self.workspace_path),
            ("node.name", "--node-name", &self.node_name),
            ("metrics.listen", "--metrics-listen", &self.metrics_listen),
        ];
        let values = given
            .into_iter()
            .filter_map(|(key, flag, text)| Some(FlagValue { key, flag, text: text.clone()? }))
            .collect();
        Flags { config_file: config_file.map(Path::to_owned), values, default_workspace: None }
    }
}
