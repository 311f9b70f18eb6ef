//! The flags of `agentvm bench`.

// These comments are what `--help` prints on a terminal: backticks around each name would be noise there.
#![allow(clippy::doc_markdown)]

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use agentvm_operator::config::SettingsArgs;

/// How figures are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchOutput {
    /// For people.
    Table,
    /// For programs; the fields are stable.
    Json,
}

/// What the measured machines are connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchNetwork {
    /// As pools are by default: a network device, and rules that hold it.
    Nat,
    /// No network device.
    Isolated,
}

#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub which: Which,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Which {
    /// From a used machine to one in its golden state: in place, in a fresh process, by libvirt's revert and restore, by a boot.
    Reset {
        /// Sizes of the machines, MiB. From 2048 on, about a GiB of it is filled before the capture.
        #[arg(long, value_name = "MIB", value_delimiter = ',', default_values_t = [512, 2048])]
        memory: Vec<u32>,
        #[command(flatten)]
        common: Common,
    },
    /// From a durable claim to the agent's word that the command is being executed, beside a write to the API server.
    Acquire {
        /// Size of the machines, MiB.
        #[arg(long, value_name = "MIB", default_value_t = 512)]
        memory: u32,
        #[command(flatten)]
        common: Common,
    },
    /// A command that does nothing, from its creation to the moment when a watcher sees that it has succeeded.
    Run {
        /// Instead: so many runs a second through a pool of two, whatever becomes of those before.
        #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
        rate: Option<f64>,
        /// For how long, with --rate.
        #[arg(long, value_name = "SECONDS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=86_400))]
        seconds: u32,
        /// Size of the machines, MiB.
        #[arg(long, value_name = "MIB", default_value_t = 512)]
        memory: u32,
        #[command(flatten)]
        common: Common,
    },
    /// What idle machines of one golden cost the host, beside the memory that they offer; -n is how many there are, 8 by default.
    Density {
        /// Size of the machines, MiB.
        #[arg(long, value_name = "MIB", default_value_t = 512)]
        memory: u32,
        #[command(flatten)]
        common: Common,
    },
    /// What 10, 100 and 1,000 finished runs, and 1, 4 and 16 machines, do to a claim, to memory and to the API server.
    Scale {
        /// Size of the machines, MiB.
        #[arg(long, value_name = "MIB", default_value_t = 512)]
        memory: u32,
        #[command(flatten)]
        common: Common,
    },
    /// What the rules that hold machines cost: throughput and answers with and without them, and opening a link where 64 are open.
    Network {
        /// Size of the machine, MiB.
        #[arg(long, value_name = "MIB", default_value_t = 512)]
        memory: u32,
        #[command(flatten)]
        common: Common,
    },
    /// From nothing to a pool of prepared machines: as pools do it, and one after the other.
    Fill {
        /// Size of the machines, MiB.
        #[arg(long, value_name = "MIB", default_value_t = 512)]
        memory: u32,
        /// How many machines.
        #[arg(long, value_name = "N", default_value_t = 8)]
        machines: u32,
        #[command(flatten)]
        common: Common,
    },
}

impl Which {
    pub fn common(&self) -> &Common {
        match self {
            Self::Reset { common, .. }
            | Self::Run { common, .. }
            | Self::Acquire { common, .. }
            | Self::Scale { common, .. }
            | Self::Density { common, .. }
            | Self::Network { common, .. }
            | Self::Fill { common, .. } => common,
        }
    }
}

/// What every bench understands.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// How often each thing is measured. The default is each bench's own.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub n: Option<u32>,
    /// How the figures are printed; with -v the table also shows where the time went.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: BenchOutput,
    /// How agentvm's own machines are connected; ordinary domains that they are compared with have no network.
    #[arg(long, value_name = "MODE", default_value = "nat")]
    pub network: BenchNetwork,
    /// Folder in which the bench makes one of its own; removed in the end. QEMU's user must be able to traverse it. Default: /var/tmp.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The default guest image: a folder with `image.json`. Default: the newest in the build cache.
    #[arg(long, value_name = "DIR")]
    pub image_dir: Option<PathBuf>,
    /// Folder with etcd, kube-apiserver and kube-controller-manager. Default: $KUBEBUILDER_ASSETS, PATH, the build cache.
    #[arg(long, value_name = "DIR")]
    pub control_plane_dir: Option<PathBuf>,
    #[command(flatten)]
    pub settings: SettingsArgs,
}

impl Common {
    pub fn rounds(&self, default: usize) -> usize {
        self.n.map_or(default, |n| usize::try_from(n).unwrap_or(default))
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if rate > 0.0 && rate <= 100.0 { Ok(rate) } else { Err("more than 0, at most 100".to_owned()) }
}
