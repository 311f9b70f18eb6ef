//! The metrics by name, and their registry.

use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
    core::Collector,
};

/// From a millisecond to a minute, because it covers both a reset in place and a boot under
/// software emulation.
const MACHINE: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0,
];
/// From a tenth of a second to a day, because the programs of runs differ that much.
const PROGRAM: &[f64] =
    &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];

/// All metrics.
pub(super) struct Families {
    registry: Registry,
    pub boot: HistogramVec,
    pub pool_size: IntGaugeVec,
    pub acquire: HistogramVec,
    pub reset: HistogramVec,
    pub memory: IntGaugeVec,
    pub unshared: IntGaugeVec,
    pub connections: IntCounterVec,
    pub received: IntCounterVec,
    pub sent: IntCounterVec,
    pub executions: IntCounterVec,
    pub execution: HistogramVec,
    pub reconcile: HistogramVec,
    pub reconcile_errors: IntCounterVec,
    pub api_writes: IntCounterVec,
    pub store: IntGaugeVec,
}

impl Families {
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let seconds = |name: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            registered(&registry, HistogramVec::new(options, labels)?)
        };
        let counter = |name: &str, help: &str, labels: &[&str]| {
            registered(&registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            registered(&registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
        };
        say_version(&registry)?;
        Ok(Self {
            boot: seconds(
                "agent_vm_boot_duration_seconds",
                "Time from the begin of a machine's creation until the machine could be lent, by \
                 kind of creation.",
                &["pool_id", "kind"],
                MACHINE,
            )?,
            pool_size: gauge(
                "agent_vm_pool_size",
                "Machines on this node, by state.",
                &["pool_id", "state"],
            )?,
            acquire: seconds(
                "agent_vm_pool_acquire_duration_seconds",
                "Time from the durable claim until the machine acknowledged its program. cold: the \
                 run had waited.",
                &["pool_id", "result"],
                MACHINE,
            )?,
            reset: seconds(
                "agent_vm_reset_duration_seconds",
                "Time from the begin of a reset until its proof was complete, or had failed.",
                &["pool_id", "tier", "result"],
                MACHINE,
            )?,
            memory: gauge(
                "agent_vm_memory_usage_bytes",
                "Resident memory of a machine's process.",
                &["vm_id"],
            )?,
            unshared: gauge(
                "agent_vm_unshared_memory_bytes",
                "Memory that a machine's process does not share with its golden. It becomes free \
                 when the machine ends.",
                &["vm_id"],
            )?,
            connections: counter(
                "agent_vm_network_connections_total",
                "Connections of runs that the rules accepted, and packets of runs that the rules \
                 dropped.",
                &["pool_id", "verdict"],
            )?,
            received: counter(
                "agent_vm_network_receive_bytes_total",
                "Bytes that a machine received during runs.",
                &["vm_id"],
            )?,
            sent: counter(
                "agent_vm_network_transmit_bytes_total",
                "Bytes that a machine sent during runs, including dropped bytes.",
                &["vm_id"],
            )?,
            executions: counter(
                "agent_execution_total",
                "Runs that ended, by reason.",
                &["status", "pool_id"],
            )?,
            execution: seconds(
                "agent_execution_duration_seconds",
                "Running time of the programs of runs.",
                &["pool_id"],
                PROGRAM,
            )?,
            reconcile: seconds(
                "agentvm_reconcile_duration_seconds",
                "Duration of reconciles.",
                &["kind"],
                MACHINE,
            )?,
            reconcile_errors: counter(
                "agentvm_reconcile_errors_total",
                "Reconciles that failed and are tried again.",
                &["kind", "error"],
            )?,
            api_writes: counter(
                "agentvm_api_writes_total",
                "Writes sent to the API server.",
                &["kind", "verb"],
            )?,
            store: gauge(
                "agentvm_store_bytes",
                "The store of `standalone`: its file, the used part of it, and the quota of the \
                 file.",
                &["part"],
            )?,
            registry,
        })
    }

    /// The text in the format of Prometheus. Empty if the encoding fails.
    pub fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|why| {
            tracing::warn!(error = &why as &dyn std::error::Error, "could not encode the metrics");
            String::new()
        })
    }
}

fn say_version(registry: &Registry) -> Result<(), prometheus::Error> {
    let help = "Always 1; the labels have the version and the commit of the operator.";
    let options = Opts::new("agentvm_build_info", help);
    let build = registered(registry, IntGaugeVec::new(options, &["version", "commit"])?)?;
    build.with_label_values(&[crate::version::VERSION, crate::version::COMMIT]).set(1);
    Ok(())
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
