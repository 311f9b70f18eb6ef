//! `agentvm operator`: serves an existing API server. The DaemonSet runs it.
//!
//! After a signal it claims no more machines, lets current runs finish within the grace period, and
//! leaves its idle machines to the next operator.

use std::process::ExitCode;

use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use agentvm_core::node::LeaseTimes;
use agentvm_operator::api::{TimeLimits, client};
use agentvm_operator::service::{EndSignals, POD_GRACE, api_server_networks, block_on, serve};

use super::{Failure, GlobalArgs, OperatorArgs};

pub fn run(args: &OperatorArgs, global: &GlobalArgs) -> Result<ExitCode, Failure> {
    let mut settings =
        agentvm_operator::config::load(&args.settings.flags(global.config.as_deref()))?.settings;
    block_on(async {
        let mut end = EndSignals::new()?;
        let start = async {
            let config = client_config(args).await?;
            settings.network.deny_cidrs.extend(api_server_networks(&config).await?);
            let client = client(config, TimeLimits::default()).map_err(Failure::failed)?;
            let images = args.images.clone().into();
            serve(client, &settings, &images, &args.state_dir, LeaseTimes::SHARED).await
        };
        let served = tokio::select! {
            served = start => served?,
            () = end.next() => return Ok(ExitCode::SUCCESS),
        };
        tracing::info!(node = %settings.node.name, "the operator is running");
        let lost = tokio::select! {
            () = end.next() => None,
            why = served.operator.lease_lost() => Some(why),
        };
        served.operator.stop(POD_GRACE, false).await;
        match lost {
            None => Ok(ExitCode::SUCCESS),
            Some(why) => Err(Failure::failed(LeaseLost(why))),
        }
    })
}

/// Another operator has the Lease of this node.
#[derive(Debug)]
struct LeaseLost(String);

impl std::fmt::Display for LeaseLost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let why = &self.0;
        write!(f, "this node lost its Lease, so the operator ended its attempts and stopped: {why}")
    }
}

impl std::error::Error for LeaseLost {}

/// `--kubeconfig`, or else `KUBECONFIG`, or else the pod's service account, or else
/// `~/.kube/config`.
async fn client_config(args: &OperatorArgs) -> Result<Config, Failure> {
    let options =
        KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let config = if let Some(file) = &args.kubeconfig {
        let kubeconfig = Kubeconfig::read_from(file).map_err(Failure::failed)?;
        Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(Failure::failed)?
    } else if std::env::var_os("KUBECONFIG").is_some() || args.context.is_some() {
        Config::from_kubeconfig(&options).await.map_err(Failure::failed)?
    } else {
        match Config::incluster() {
            Ok(config) => config,
            Err(_) => Config::from_kubeconfig(&options).await.map_err(Failure::failed)?,
        }
    };
    Ok(config)
}
