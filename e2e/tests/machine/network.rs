//! The network attempts of a run are visible. It tries only this host, which no machine reaches.

use std::time::{Duration, Instant};

use agentvm_crds::{AgentVMPool, RunNetwork};
use agentvm_e2e::{Error, Host, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

/// The time from a warm machine's first packet to an Event about it, on a busy host.
const TOLD: Duration = Duration::from_mins(1);

pub async fn what_is_denied_is_told(host: &Host) -> Result<(), Error> {
    is_told(host, "connected", "-4", json!({})).await
}

pub async fn what_is_denied_by_ipv6_is_told(host: &Host) -> Result<(), Error> {
    is_told(host, "dual", "-6", json!({"ipFamilies": ["IPv4", "IPv6"]})).await
}

/// `version`: the IP version by which the machine looks for its gateway.
async fn is_told(host: &Host, pool: &str, version: &str, more: Value) -> Result<(), Error> {
    let mut network = json!({"mode": "NatFiltered", "resolver": "203.0.113.53"});
    network
        .as_object_mut()
        .into_iter()
        .for_each(|network| network.extend(more.as_object().cloned().unwrap_or_default()));
    let spec = json!({"goldenSnapshotRef": {"name": "default"}, "warm": {"min": 1, "max": 1},
        "network": network});
    host.api()
        .create(&PostParams::default(), &AgentVMPool::new(pool, serde_json::from_value(spec)?))
        .await?;
    let idle = host.submit(json!({"poolRef": {"name": pool}, "command": ["sleep", "1"]})).await?;
    let idle = host.ended(&idle).await?;
    let network = idle.status().network.clone().unwrap_or_default();
    ensure!(network == RunNetwork::default(), "it tried nothing: {idle}");
    let script = "
        host=$(ip $0 route show default | cut -d ' ' -f 3)
        for n in 1 2 3; do echo > /dev/udp/$host/8080; done
        timeout 5 bash -c 'echo > /dev/tcp/'$host'/22'
        echo $host";
    let command = json!({"poolRef": {"name": pool}, "command": ["bash", "-c", script, version]});
    let name = host.submit(command).await?;
    let run = host.ended(&name).await?;
    ensure!(run.reason() == "Completed", "{run}");
    let Some(RunNetwork { allowed: 0, denied, top_denied }) = &run.status().network else {
        return Err(format!("no network, or not this: {run}").into());
    };
    // A program repeats a connection that gets no answer.
    ensure!(*denied >= 4, "{run}");
    let host_address = run.stdout().trim().to_owned();
    let count = |port| {
        top_denied.iter().find(|d| d.destination == host_address && d.port == port).map(|d| d.count)
    };
    ensure!(count(Some(8080)) == Some(3) && count(Some(22)) >= Some(1), "{run}");
    told(
        host,
        &name,
        &format!("UDP {host_address} port 8080 (the host, its cluster and other machines are kept"),
    )
    .await
}

/// Returns when an Event about the run contains the text.
async fn told(host: &Host, run: &str, what: &str) -> Result<(), Error> {
    let deadline = Instant::now() + TOLD;
    let mut look = tokio::time::interval(Duration::from_millis(200));
    loop {
        look.tick().await;
        let all = host.api::<Event>().list(&ListParams::default()).await?.items;
        let about = all
            .iter()
            .filter(|event| event.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(run));
        let notes: Vec<_> = about.filter_map(|event| event.note.as_deref()).collect();
        if notes.iter().any(|note| note.contains(what)) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "no Event about {run} says {what}: {notes:?}");
    }
}
