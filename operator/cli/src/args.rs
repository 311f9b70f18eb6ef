//! The command line: every flag, with the help that a person needs to use it. This file only
//! declares the flags.

// `--help` prints these comments on a terminal, where backticks around each name would disturb.
#![allow(clippy::doc_markdown)]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use agentvm_bench::BenchArgs;
use agentvm_operator::config::SettingsArgs;
use agentvm_operator::guest_image::Images;

/// The default folder for goldens and machines.
pub const STATE_DIR: &str = "/var/lib/agentvm";

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.

Configuration: defaults, then /etc/agent-vm/config.yaml, then ~/.config/agent-vm/config.yaml (or
--config FILE), then the environment, then flags; the later wins. `agentvm config show` prints each
value and its origin.

Begin with `agentvm doctor`: it checks this host and names the remedy for each problem.";

/// Runs command-line coding agents in KVM machines. Each machine is provably in its golden state.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "agentvm",
    version,
    after_help = AFTER_HELP,
    propagate_version = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: CliCommand,
}

/// Flags of every subcommand.
#[derive(Clone, Debug, Args)]
pub struct GlobalArgs {
    /// Configuration file, read in place of ~/.config/agent-vm/config.yaml. It must exist.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Log level: error, warn, info, debug, trace; or filters such as
    /// `info,agentvm_hypervisor=debug`.
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        env = "AGENT_VM_LOG_LEVEL",
        default_value = "info"
    )]
    pub log_level: String,
    /// Log format. Logs go to standard error, with New York times and their offset.
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        env = "AGENT_VM_LOG_FORMAT",
        default_value = "pretty"
    )]
    pub log_format: LogFormat,
    /// Log more: -v is debug, -vv is trace. Wins over --log-level.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The format of logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// The format of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Text,
    /// For programs; the fields are stable.
    Json,
}

#[derive(Clone, Debug, Subcommand)]
pub enum CliCommand {
    /// Execute runs on this host for an existing API server: a cluster's, k3s's, or `standalone`'s.
    Operator(Box<OperatorArgs>),
    /// Execute runs on a host without a cluster: starts etcd, kube-apiserver and the operator.
    ///
    /// Prints `ready: export KUBECONFIG=…` when it accepts runs. SIGTERM or Ctrl-C ends all parts.
    Standalone(Box<StandaloneArgs>),
    /// Measure agentvm and the usual alternatives on this host.
    ///
    /// Works in a folder of its own, and removes it at the end. Takes minutes; -n 3 gives an
    /// impression.
    Bench(Box<BenchArgs>),
    /// Check this host: missing parts for machines, the reasons why they matter, and the remedies.
    ///
    /// Exits with 1 only if this host can't execute runs. Changes nothing.
    Doctor(DoctorArgs),
    /// Show the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the custom resource definitions, for `kubectl apply -f -`.
    Crds,
    /// Print the versions of agentvm and of everything that it uses on this host.
    Version(VersionArgs),
    /// Keep the libvirtd that `standalone` started. This process outlives it.
    #[command(name = "__reaper", hide = true)]
    Reaper {
        #[arg(long)]
        state_dir: PathBuf,
        #[arg(long)]
        detached: bool,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every value and its origin.
    Show {
        #[arg(short, long, value_name = "FORMAT", default_value = "text")]
        output: OutputFormat,
        #[command(flatten)]
        settings: SettingsArgs,
    },
}

/// Flags of the operator, in a cluster or beside one.
#[derive(Clone, Debug, Args)]
pub struct OperatorArgs {
    /// The kubeconfig of the API server. Default: $KUBECONFIG, the pod's service account,
    /// ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// A context of this kubeconfig. Default: its current context.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Folder for goldens, machines and their disks. QEMU's user must be able to enter it.
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    pub state_dir: PathBuf,
    #[command(flatten)]
    pub images: ImageArgs,
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Flags of `standalone`, which runs a control plane and an operator in one process.
#[derive(Clone, Debug, Args)]
pub struct StandaloneArgs {
    /// Folder for all data: certificates, etcd's data, goldens, machines, `kubeconfig`. A restart
    /// uses it again.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Folder with etcd, kube-apiserver and kube-controller-manager. Default: $KUBEBUILDER_ASSETS,
    /// PATH, the build cache.
    #[arg(long, value_name = "DIR")]
    pub control_plane_dir: Option<PathBuf>,
    /// Make a golden snapshot and a pool from the configured defaults, both named `default`.
    #[arg(long)]
    pub default_pool: bool,
    #[command(flatten)]
    pub images: ImageArgs,
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// The places of guest images.
#[derive(Clone, Debug, Default, Args)]
pub struct ImageArgs {
    /// The default guest image: a folder with `image.json`. Default: the newest in the build cache.
    #[arg(long, value_name = "DIR")]
    pub image_dir: Option<PathBuf>,
    /// The only folder whose files `spec.source.rootfs.path` of a golden snapshot may name.
    /// Default: no folder, and such goldens are refused.
    #[arg(long, value_name = "DIR")]
    pub images_folder: Option<PathBuf>,
}

impl From<ImageArgs> for Images {
    fn from(args: ImageArgs) -> Self {
        Self { image_dir: args.image_dir, images_folder: args.images_folder }
    }
}

#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
    /// The directory whose disk is checked: --state-dir of `operator`, or --data-dir of
    /// `standalone`.
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    pub state_dir: PathBuf,
    #[command(flatten)]
    pub places: PlaceArgs,
    #[command(flatten)]
    pub settings: SettingsArgs,
}

#[derive(Clone, Debug, Args)]
pub struct VersionArgs {
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
    #[command(flatten)]
    pub places: PlaceArgs,
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// The places of built parts.
#[derive(Clone, Debug, Default, Args)]
pub struct PlaceArgs {
    /// Folder with etcd, kube-apiserver and kube-controller-manager. Default: $KUBEBUILDER_ASSETS,
    /// PATH, the build cache.
    #[arg(long, value_name = "DIR")]
    pub control_plane_dir: Option<PathBuf>,
    /// The guest image: a folder with `image.json`. Default: the newest in the build cache.
    #[arg(long, value_name = "DIR")]
    pub image_dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_settings_flag_names_a_key_that_exists() {
        let text = |value: &str| Some(value.to_owned());
        let all = SettingsArgs {
            libvirt_uri: text("qemu:///session"),
            network_mode: text("isolated"),
            default_profile: text("light"),
            pool_min_size: text("1"),
            pool_max_size: text("2"),
            exec_timeout: text("3"),
            workspace_path: text("/w"),
            node_name: text("n"),
            metrics_listen: text("off"),
        };
        let global = Cli::parse_from(["agentvm", "crds"]).global;
        let loaded = agentvm_operator::config::load(&all.flags(global.config.as_deref())).unwrap();
        let flags = loaded
            .origins
            .iter()
            .filter(|row| matches!(row.origin, agentvm_operator::config::Origin::Flag { .. }));
        assert_eq!(flags.count(), 9);
    }
}
