//! The command line: every flag with the help that a person needs to use it. Nothing is read or done here.

// These comments are what `--help` prints on a terminal: backticks around each name would be noise there.
#![allow(clippy::doc_markdown)]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use agentvm_bench::BenchArgs;
use agentvm_operator::config::SettingsArgs;
use agentvm_operator::guest_image::Images;

/// Where a host's operator keeps goldens and machines unless told otherwise.
pub const STATE_DIR: &str = "/var/lib/agentvm";

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.

Configuration: defaults, then /etc/agent-vm/config.yaml, then ~/.config/agent-vm/config.yaml (or --config FILE), then
the environment, then flags; the later wins. `agentvm config show` prints each value and where it comes from.

Begin with `agentvm doctor`: it checks this host and says how to mend what it finds.";

/// Runs command-line coding agents in KVM machines, each of them provably in its golden state.
#[derive(Clone, Debug, Parser)]
#[command(name = "agentvm", version, after_help = AFTER_HELP, propagate_version = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// What every subcommand understands.
#[derive(Clone, Debug, Args)]
pub struct GlobalArgs {
    /// Configuration file, read instead of ~/.config/agent-vm/config.yaml; it must exist.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, trace, or filters such as `info,agentvm_hypervisor=debug`.
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        env = "AGENT_VM_LOG_LEVEL",
        default_value = "info"
    )]
    pub log_level: String,
    /// How it is logged, to standard error; times are New York's, with their offset.
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

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// How a command answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs; the fields are stable.
    Json,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Take runs on this host for an API server that is there already: a cluster's, k3s's, `standalone`'s.
    Operator(Box<OperatorArgs>),
    /// Take runs on this host with nothing else there: starts etcd, kube-apiserver and the operator.
    ///
    /// Prints `ready: export KUBECONFIG=…` when runs are accepted. SIGTERM or Ctrl-C ends all of it.
    Standalone(Box<StandaloneArgs>),
    /// Measure what agentvm promises, beside what others do, on this host.
    ///
    /// Works in a folder of its own, which is removed in the end. Takes minutes; -n 3 gives an impression.
    Bench(Box<BenchArgs>),
    /// Check this host: what is missing for running machines, why it matters and how to mend it.
    ///
    /// Ends with 1 only if the main job can't be done here. Changes nothing.
    Doctor(DoctorArgs),
    /// Show the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the custom resource definitions, to be piped into `kubectl apply -f -`.
    Crds,
    /// Print the versions of agentvm and of everything that it uses on this host.
    Version(VersionArgs),
    /// Keeps the libvirtd that `standalone` started, and outlives it.
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
    /// Print every value and where it comes from.
    Show {
        #[arg(short, long, value_name = "FORMAT", default_value = "text")]
        output: Output,
        #[command(flatten)]
        settings: SettingsArgs,
    },
}

/// What the operator needs, in a cluster or beside one.
#[derive(Clone, Debug, Args)]
pub struct OperatorArgs {
    /// The API server to serve. Default: $KUBECONFIG, the pod's service account, ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// A context of that file. Default: its current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Where goldens, machines and their disks are kept; QEMU's user must be able to traverse it.
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    pub state_dir: PathBuf,
    #[command(flatten)]
    pub images: ImageArgs,
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// What `standalone` needs: a control plane and an operator in one process.
#[derive(Clone, Debug, Args)]
pub struct StandaloneArgs {
    /// Where everything is kept: certificates, etcd's data, goldens, machines, `kubeconfig`. A restart finds it again.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Folder with etcd, kube-apiserver and kube-controller-manager. Default: $KUBEBUILDER_ASSETS, PATH, the build cache.
    #[arg(long, value_name = "DIR")]
    pub control_plane_dir: Option<PathBuf>,
    /// Make a golden snapshot and a pool, both named `default`, out of the configured defaults.
    #[arg(long)]
    pub default_pool: bool,
    #[command(flatten)]
    pub images: ImageArgs,
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Where guests come from.
#[derive(Clone, Debug, Default, Args)]
pub struct ImageArgs {
    /// The default guest image: a folder with `image.json`. Default: the newest in the build cache.
    #[arg(long, value_name = "DIR")]
    pub image_dir: Option<PathBuf>,
    /// The only folder that `spec.source.rootfs.path` of a golden snapshot can name files of. Default: none, and such goldens are refused.
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
    pub output: Output,
    /// The directory whose disk is checked: --state-dir of `operator`, --data-dir of `standalone`.
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
    pub output: Output,
    #[command(flatten)]
    pub places: PlaceArgs,
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Where built parts are looked for.
#[derive(Clone, Debug, Default, Args)]
pub struct PlaceArgs {
    /// Folder with etcd, kube-apiserver and kube-controller-manager. Default: $KUBEBUILDER_ASSETS, PATH, the build cache.
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
