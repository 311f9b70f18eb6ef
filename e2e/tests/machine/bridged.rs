//! Machines on a bridge of the host. A DHCP server there gives them their addresses; without an
//! address they are not lent.

use std::time::Instant;

use agentvm_crds::{AgentVMPool, Condition, ConditionStatus, condition_type};
use agentvm_e2e::{Error, Host, PATIENCE, ensure, own_networks};
use kube::api::{DeleteParams, PostParams};
use kube::runtime::wait::await_condition;
use serde_json::json;
use tokio::time::timeout;

use agentvm_testing::networks::lan::{Lan, NAME, SERVER};

/// The address at which the test network's server answers DNS.
const RESOLVER: &str = "203.0.113.53";

/// The first or the second of this host's foreign networks.
fn lan(host: &Host, which: usize) -> Result<Lan, Error> {
    Ok(Lan::new(&own_networks(&host.dir)?[which], RESOLVER.parse()?))
}

/// Waits until the pool's condition `Ready` fits.
async fn until(host: &Host, name: &str, holds: fn(&Condition) -> bool) -> Result<(), Error> {
    let wanted =
        await_condition(host.api::<AgentVMPool>(), name, move |pool: Option<&AgentVMPool>| {
            let status = pool.and_then(|pool| pool.status.as_ref());
            let mut ready = status.into_iter().flat_map(|status| &status.conditions);
            ready.any(|condition| condition.type_ == condition_type::READY && holds(condition))
        });
    let told = timeout(PATIENCE, wanted).await;
    let stands = host.api::<AgentVMPool>().get(name).await?.status;
    ensure!(told.is_ok(), "pool {name} stands at {stands:?}");
    Ok(())
}

async fn pool(host: &Host, name: &str, lan: &Lan) -> Result<(), Error> {
    let pool = json!({
        "goldenSnapshotRef": {"name": "default"},
        "warm": {"min": 2, "max": 2},
        "network": {"mode": "Bridge", "bridge": lan.bridge, "resolver": RESOLVER},
    });
    let pool = AgentVMPool::new(name, serde_json::from_value(pool)?);
    host.api().create(&PostParams::default(), &pool).await?;
    Ok(())
}

pub async fn a_machine_on_a_bridge_has_what_its_server_gives_it(host: &Host) -> Result<(), Error> {
    let lan = lan(host, 0)?;
    pool(host, "bridged", &lan).await?;
    until(host, "bridged", |ready| ready.status == ConditionStatus::True).await?;
    let script = format!(
        "ip -o -4 addr show scope global | awk '{{print $4}}'
         getent ahostsv4 {NAME} | awk 'NR == 1 {{print $1}}'
         timeout 10 bash -c 'exec 3<>/dev/tcp/{SERVER}/53' && echo reached
         sleep 1"
    );
    let command = json!({"poolRef": {"name": "bridged"}, "command": ["bash", "-c", script]});
    // Both run at the same time, so on two machines. The third may have either.
    let names = [
        host.submit(command.clone()).await?,
        host.submit(command.clone()).await?,
        host.submit(command).await?,
    ];
    let mut seen = std::collections::BTreeMap::new();
    for name in names {
        let run = host.ended(&name).await?;
        ensure!(run.reason() == "Completed", "{run}");
        let said: Vec<String> = run.stdout().lines().map(str::to_owned).collect();
        let [address, server, reached] = said.as_slice() else {
            return Err(format!("{run}").into());
        };
        ensure!(address.starts_with("203.0.113.1") && address.ends_with("/24"), "{run}");
        ensure!(*server == SERVER.to_string() && reached == "reached", "{run}");
        let machine = run.status().vm_name.clone().unwrap_or_default();
        let before = seen.insert(machine, address.clone());
        ensure!(
            before.is_none_or(|before| before == *address),
            "a machine that was brought back keeps it: {run}"
        );
    }
    let addresses: std::collections::BTreeSet<_> = seen.values().collect();
    ensure!(
        addresses.len() == seen.len() && seen.len() == 2,
        "each machine has one of its own: {seen:?}"
    );
    host.api::<AgentVMPool>().delete("bridged", &DeleteParams::default()).await?;
    Ok(())
}

pub async fn without_a_server_a_pool_says_so_and_lends_nothing(host: &Host) -> Result<(), Error> {
    let mut lan = lan(host, 1)?;
    lan.end();
    let began = Instant::now();
    pool(host, "unserved", &lan).await?;
    until(host, "unserved", |ready| {
        let unavailable =
            ready.status == ConditionStatus::False && ready.reason == "NetworkUnavailable";
        unavailable && ready.message.contains("no DHCP server")
    })
    .await?;
    eprintln!(
        "measured: a pool without a DHCP server says so after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    host.api::<AgentVMPool>().delete("unserved", &DeleteParams::default()).await?;
    Ok(())
}
