//! The flags of `agentvm bench`.

// `--help` prints these comments on a terminal, where backticks around each name would disturb.
#![allow(clippy::doc_markdown)]

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use agentvm_operator::config::SettingsArgs;

/// The format of the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchOutput {
    /// For people.
    Table,
    /// For programs; the fields are stable.
    Json,
}

/// The network of the measured machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchNetwork {
    /// The default of pools: a network device, and rules that limit it.
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
    /// From a used machine to its golden state: in place, in a fresh process, by libvirt's revert
    /// and restore, by a boot.
    Reset {
        /// Sizes of the machines, MiB. From 2048 on, about a GiB of the memory is filled before the
        /// capture.
        #[arg(long, value_name = "MIB", value_delimiter = ',', default_values_t = [512, 2048])]
        memory: Vec<u32>,
        #[command(flatten)]
        common: Common,
    },
    /// From a durable claim to the agent's acknowledgement of the command, beside a write to the
    /// API server.
    Acquire {
        /// Size of the machines, MiB.
        #[arg(long, value_name = "MIB", default_value_t = 512)]
        memory: u32,
        #[command(flatten)]
        common: Common,
    },
    /// A command that does nothing, from its creation to the moment when a watcher sees its
    /// success.
    Run {
        /// Measure this rate instead: so many runs a second through a pool of two, without a wait
        /// for earlier runs.
        #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
        rate: Option<f64>,
        /// Duration with --rate, seconds.
        #[arg(
            long,
            value_name = "SECONDS",
            default_value_t = 200,
            value_parser = clap::value_parser!(u32).range(1..=86_400)
        )]
        seconds: u32,
        /// Size of the machines, MiB.
        #[arg(long, value_name = "MIB", default_value_t = 512)]
        memory: u32,
        #[command(flatten)]
        common: Common,
    },
    /// A queue of commands that do nothing: runs per second, and the cycle of a machine by phase,
    /// beside a revert and a boot for each run. -n is the length of the queue, 200 by default.
    Throughput {
        /// Size of the machines, MiB.
        #[arg(long, value_name = "MIB", default_value_t = 512)]
        memory: u32,
        /// Numbers of machines, one queue for each.
        #[arg(
            long,
            value_name = "N",
            value_delimiter = ',',
            default_values_t = [1, 2, 4, 8],
            value_parser = clap::value_parser!(u32).range(1..=256)
        )]
        machines: Vec<u32>,
        #[command(flatten)]
        common: Common,
    },
    /// The memory cost of idle machines of one golden, beside the memory that they offer. -n is the
    /// number of machines, 8 by default.
    Density {
        /// Size of the machines, MiB.
        #[arg(long, value_name = "MIB", default_value_t = 512)]
        memory: u32,
        #[command(flatten)]
        common: Common,
    },
    /// The effect of 10, 100 and 1,000 finished runs, and of 1, 4 and 16 machines, on a claim, on
    /// memory and on the API server.
    Scale {
        /// Size of the machines, MiB.
        #[arg(long, value_name = "MIB", default_value_t = 512)]
        memory: u32,
        #[command(flatten)]
        common: Common,
    },
    /// The cost of the network rules: throughput and answers with and without them, and the opening
    /// of a link beside 64 open ones.
    Network {
        /// Size of the machine, MiB.
        #[arg(long, value_name = "MIB", default_value_t = 512)]
        memory: u32,
        #[command(flatten)]
        common: Common,
    },
    /// From nothing to a pool of prepared machines: in parallel like pools, and one after the
    /// other.
    Fill {
        /// Size of the machines, MiB.
        #[arg(long, value_name = "MIB", default_value_t = 512)]
        memory: u32,
        /// Number of machines.
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
            | Self::Throughput { common, .. }
            | Self::Acquire { common, .. }
            | Self::Scale { common, .. }
            | Self::Density { common, .. }
            | Self::Network { common, .. }
            | Self::Fill { common, .. } => common,
        }
    }

    /// The number of measurements of each figure.
    pub fn rounds(&self) -> usize {
        let default = match self {
            Self::Density { .. } => 8,
            Self::Acquire { .. } | Self::Throughput { .. } => 200,
            Self::Reset { .. }
            | Self::Run { .. }
            | Self::Scale { .. }
            | Self::Network { .. }
            | Self::Fill { .. } => 20,
        };
        self.common().n.map_or(default, |n| usize::try_from(n).unwrap_or(default))
    }
}

/// Flags of every bench.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Number of measurements of each figure. The default differs by bench.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub n: Option<u32>,
    /// Format of the figures. With -v the table also shows the time of each step.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: BenchOutput,
    /// Network of agentvm's own machines. The ordinary domains for comparison have no network.
    #[arg(long, value_name = "MODE", default_value = "nat")]
    pub network: BenchNetwork,
    /// Folder in which the bench makes one of its own, and removes it at the end. QEMU's user must
    /// be able to enter it. Default: /var/tmp.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The default guest image: a folder with `image.json`. Default: the newest in the build cache.
    #[arg(long, value_name = "DIR")]
    pub image_dir: Option<PathBuf>,
    /// Folder with etcd, kube-apiserver and kube-controller-manager. Default: $KUBEBUILDER_ASSETS,
    /// PATH, the build cache.
    #[arg(long, value_name = "DIR")]
    pub control_plane_dir: Option<PathBuf>,
    #[command(flatten)]
    pub settings: SettingsArgs,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if rate > 0.0 && rate <= 100.0 { Ok(rate) } else { Err("more than 0, at most 100".to_owned()) }
}
