//! `agentvm bench`: measures agentvm beside the usual alternatives, on the same host and in the
//! same process.
//!
//! ```text
//! cli ─► lib: a host that goes with the bench (lab, folder)
//!         └► reset · acquire · run · throughput · density · fill · scale · network
//!             └► rounds: contenders take turns ─► report: table or JSON (stats)
//! ```
//! Contenders of agentvm's own (`product`) use the product's calls. Baselines (`ordinary`) use
//! libvirt's calls.
#![forbid(unsafe_code)]

mod acquire;
mod args;
mod container;
mod counters;
mod density;
mod error;
mod fill;
mod folder;
mod full;
mod guest;
mod lab;
mod network;
mod ordinary;
mod product;
mod report;
mod reset;
mod rounds;
mod run;
mod scale;
mod stats;
mod throughput;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use agentvm_operator::config::{self, MetricsSettings, Settings};
use agentvm_operator::failure::{Failure, print};
use agentvm_operator::guest_image;
use agentvm_operator::service::{self, EndSignals, block_on};
use args::{BenchOutput, Which};

pub use args::BenchArgs;

use error::BenchError;
use folder::Throwaway;
use lab::Lab;
use report::Report;

/// Short, because paths of sockets are limited; and QEMU's user can enter it.
const PARENT: &str = "/var/tmp";

/// Runs the subcommand.
pub fn run(
    args: &BenchArgs,
    config_file: Option<&Path>,
    verbose: bool,
) -> Result<ExitCode, Failure> {
    let common = args.which.common();
    if let Which::Network { .. } = args.which {
        network::refuse(common).map_err(Failure::failed)?;
    }
    let mut settings = config::load(&common.settings.flags(config_file))?.settings;
    // An address of our own, because another operator may run on this host.
    settings.metrics =
        MetricsSettings { listen: Some((Ipv4Addr::LOCALHOST, 0).into()), explicit: true };
    let image = guest_image::find(common.image_dir.as_deref()).map_err(Failure::failed)?.dir;
    let report = block_on(async {
        let mut end = EndSignals::new()?;
        let folder = common.data_dir.as_deref().unwrap_or(Path::new(PARENT));
        let folder = Throwaway::make(folder).map_err(Failure::failed)?;
        let done = on_a_host(&args.which, &settings, image, &folder, &mut end).await;
        // A libvirtd of an interrupted start is in no part.
        service::stop(service::Parts::default(), folder.path()).await;
        done.map_err(Failure::failed)
    })?;
    print(&match common.output {
        BenchOutput::Table => report.table(verbose),
        BenchOutput::Json => report.json(),
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn on_a_host(
    which: &Which,
    settings: &Settings,
    image: PathBuf,
    folder: &Throwaway,
    end: &mut EndSignals,
) -> Result<Report, BenchError> {
    let lab = tokio::select! {
        started = Lab::start(settings, which.common().network, image, folder) => started?,
        () = end.next() => return Err(BenchError::Interrupted),
    };
    let mut done = tokio::select! {
        done = measure(which, settings, &lab) => done,
        () = end.next() => Err(BenchError::Interrupted),
    };
    lab.stop().await;
    if let Ok(report) = &mut done {
        report.notes.extend(lab.caveat());
    }
    done
}

async fn measure(which: &Which, settings: &Settings, lab: &Arc<Lab>) -> Result<Report, BenchError> {
    let common = which.common();
    match which {
        Which::Run { rate, seconds, memory, .. } => {
            let full = lab.product(common, settings).await?;
            match rate {
                None => run::run(lab, full, *memory, which.rounds()).await,
                Some(rate) => run::at_a_rate(lab, full, *memory, *rate, *seconds).await,
            }
        }
        Which::Acquire { memory, .. } => {
            let full = lab.product(common, settings).await?;
            acquire::run(lab, full, *memory, which.rounds()).await
        }
        Which::Throughput { memory, machines, .. } => {
            let full = lab.product(common, settings).await?;
            throughput::run(lab, full, *memory, machines, which.rounds()).await
        }
        Which::Scale { memory, .. } => {
            let full = lab.product(common, settings).await?;
            scale::run(lab, full, *memory, which.rounds()).await
        }
        Which::Reset { memory, .. } => reset::run(lab, memory, which.rounds()).await,
        Which::Density { memory, .. } => density::run(lab, *memory, which.rounds()).await,
        Which::Network { memory, .. } => network::run(lab, settings, *memory, which.rounds()).await,
        Which::Fill { memory, machines, .. } => {
            fill::run(lab, *memory, *machines, which.rounds()).await
        }
    }
}
