//! The network attempts of runs: from the flows that the host logs to log lines, Events, metrics
//! and the run's status.
//!
//! ```text
//! host: flows ─► watch ─► record of the run with the machine ─► log lines, an Event soon after
//!                                      │ closed with the attempt
//!                                      └─► status.network: counts of the rules, first destinations
//! ```
//! Nothing waits for it: a run is never slower for what is written about it.

mod log_lines;
mod recorder;
mod watch;

pub use recorder::{FlowRecorder, News, Owner};
pub use watch::watch;

use agentvm_core::network::{Nic, Wire};
use agentvm_crds::RunNetwork;
use agentvm_hypervisor::{Hypervisor, MachineRecord};
use agentvm_types::RunUid;
use ipnet::IpNet;

use crate::metrics::{Metrics, pool_id};

/// From now on the machine's flows belong to this run. A machine without a network has none.
pub fn begin_record(recorder: &FlowRecorder, record: &MachineRecord, run_uid: &RunUid, run: &str) {
    let Some(nic) = &record.nic else { return };
    let nearby = match nic.wire {
        Wire::Nat { gateway, prefix, ipv6, .. } => {
            let four = IpNet::new(gateway.into(), prefix).ok();
            four.into_iter().chain(ipv6.map(|address| Nic::around(address).0.into())).collect()
        }
        Wire::Bridge { .. } => Vec::new(),
    };
    let pool = pool_id(&record.namespace, &record.owner);
    recorder
        .begin(&record.name, Owner { run_uid: run_uid.clone(), run: run.to_owned(), pool, nearby });
}

/// The run is over: returns the network part of its status.
pub async fn finish_record(
    hv: &dyn Hypervisor,
    recorder: &FlowRecorder,
    record: &MachineRecord,
    metrics: &Metrics,
) -> Option<RunNetwork> {
    record.nic.as_ref()?;
    let asked = hv.traffic(&record.name).await;
    let traffic = asked.inspect_err(|why| {
        tracing::warn!(machine = %record.name, error = why as &dyn std::error::Error,
            "what the rules counted could not be read; what was logged is told instead");
    });
    recorder.finish(&record.name, traffic.ok(), metrics)
}
