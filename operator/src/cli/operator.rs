//! `agentvm operator`: serves an API server that is there already. What the DaemonSet runs.
//!
//! Told to end, it claims nothing more, lets what runs finish within the grace period, and leaves its idle machines to the
//! operator that comes after it.

use std::{process::ExitCode, time::Duration};

use ipnet::IpNet;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::{
    Failure, GlobalArgs, OperatorArgs,
    serve::{EndSignals, block_on, serve},
};

/// How long runs that are under way get. A pod has 30 s in all by default.
const GRACE: Duration = Duration::from_secs(20);

pub fn run(args: &OperatorArgs, global: &GlobalArgs) -> Result<ExitCode, Failure> {
    let mut settings = crate::config::load(&args.settings.flags(global))?.settings;
    block_on(async {
        let mut end = EndSignals::new()?;
        let config = client_config(args).await?;
        settings.network.deny_cidrs.extend(api_server(&config).await);
        let client = Client::try_from(config).map_err(Failure::failed)?;
        let served = tokio::select! {
            served = serve(client, &settings, &args.images, &args.state_dir) => served?,
            () = end.next() => return Ok(ExitCode::SUCCESS),
        };
        tracing::info!(node = %settings.node.name, "the operator is at work");
        end.next().await;
        served.operator.stop(GRACE, false).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// `--kubeconfig`, else `KUBECONFIG`, else the pod's service account, else `~/.kube/config`.
async fn client_config(args: &OperatorArgs) -> Result<Config, Failure> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
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

/// Where the API server is: no machine reaches it, whatever its pool allows.
async fn api_server(config: &Config) -> Vec<IpNet> {
    let Some(host) = config.cluster_url.host() else { return vec![] };
    // In a URL, and nowhere else, an address of IPv6 stands in brackets.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = config.cluster_url.port_u16().unwrap_or(443);
    match tokio::net::lookup_host((host, port)).await {
        Ok(found) => found.map(|address| address.ip().into()).collect(),
        Err(why) => {
            tracing::warn!(
                host,
                "the API server's address isn't known to the rules of machines: {why}; add it to network.deny_cidrs"
            );
            vec![]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_api_server_is_found_by_its_address() {
        let of = |url: &str| Config::new(url.parse().unwrap());
        let found = api_server(&of("https://203.0.113.7:6443")).await;
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["203.0.113.7/32"]);
        assert_eq!(api_server(&of("https://[2001:db8::1]:6443")).await, ["2001:db8::1/128".parse().unwrap()]);
    }
}
