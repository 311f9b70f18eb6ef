//! The counters and measurements of this operator, and the page where Prometheus reads them.
//!
//! [`Metrics`] is a handle that every part may have: a clone is cheap, and without a listener every
//! call does nothing. Names and labels are an interface. Label values are closed sets, except names
//! of objects; these go away with their object.

mod families;
mod forget;
mod labels;
mod server;

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use agentvm_controlplane::StoreUsage;
use agentvm_core::{names::DomainName, pool::Counts};
use agentvm_hypervisor::{Tier, Traffic, Usage};

pub use labels::{AcquireKind, BootKind, Kind, ResetResult, Verb, pool_id, pool_label};
pub use server::{Server, listen, serve};

use families::Families;

/// The handle. `Default` is off.
#[derive(Clone, Default)]
pub struct Metrics(Option<Arc<Inner>>);

struct Inner {
    families: Families,
    /// The machines with series, by pool.
    machines: Mutex<HashMap<String, HashSet<String>>>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Metrics({})", if self.0.is_some() { "on" } else { "off" })
    }
}

impl Metrics {
    /// A handle that counts nothing.
    pub fn off() -> Self {
        Self::default()
    }

    pub fn new() -> Result<Self, prometheus::Error> {
        let families = Families::new()?;
        Ok(Self(Some(Arc::new(Inner { families, machines: Mutex::default() }))))
    }

    fn with(&self, record: impl FnOnce(&Families)) {
        if let Some(inner) = &self.0 {
            record(&inner.families);
        }
    }

    /// A machine was made by a boot, by a clone of the golden, or by a reset. The time ends when
    /// the machine can be lent.
    pub fn booted(&self, pool: &str, kind: BootKind, took: Duration) {
        self.with(|all| {
            all.boot.with_label_values(&[pool, kind.as_str()]).observe(took.as_secs_f64());
        });
    }

    /// A reset of a machine ended, proven or not.
    pub fn reset(&self, pool: &str, tier: Tier, result: ResetResult, took: Duration) {
        let labels = [pool, tier.label(), result.as_str()];
        self.with(|all| all.reset.with_label_values(&labels).observe(took.as_secs_f64()));
    }

    /// A claimed machine acknowledged its program. The time begins with the claim.
    pub fn acquired(&self, pool: &str, kind: AcquireKind, took: Duration) {
        self.with(|all| {
            all.acquire.with_label_values(&[pool, kind.as_str()]).observe(took.as_secs_f64());
        });
    }

    /// A run ended. `status` is the reason of its end; `ran` is the time of its program.
    pub fn run_ended(&self, pool: &str, status: &str, ran: Option<Duration>) {
        self.with(|all| {
            all.executions.with_label_values(&[status, pool]).inc();
            if let Some(ran) = ran {
                all.execution.with_label_values(&[pool]).observe(ran.as_secs_f64());
            }
        });
    }

    /// The machines of a pool on this node.
    pub fn pool(&self, pool: &str, counts: Counts) {
        let states = [
            ("warm", counts.warm),
            ("claimed", counts.claimed),
            ("resetting", counts.resetting),
            ("creating", counts.creating),
            ("quarantined", counts.quarantined),
        ];
        self.with(|all| {
            for (state, machines) in states {
                all.pool_size.with_label_values(&[pool, state]).set(machines.into());
            }
        });
    }

    /// The memory that a pool's machines take from the host. The caller passes all machines, so the
    /// series of missing machines are removed.
    pub fn machines(&self, pool: &str, usage: &[(DomainName, Usage)]) {
        let Some(inner) = &self.0 else { return };
        let all = &inner.families;
        for (name, usage) in usage {
            all.unshared.with_label_values(&[name.as_str()]).set(signed(usage.unshared_bytes));
            all.memory.with_label_values(&[name.as_str()]).set(signed(usage.resident_bytes));
        }
        let now: HashSet<String> = usage.iter().map(|(name, _)| name.to_string()).collect();
        let before = if now.is_empty() {
            inner.machines().remove(pool)
        } else {
            inner.machines().insert(pool.to_owned(), now.clone())
        };
        for gone in before.unwrap_or_default().difference(&now) {
            all.forget_machine(gone);
        }
    }

    /// The traffic of a machine during a run, since the last call.
    pub fn network(&self, pool: &str, machine: &DomainName, more: Traffic) {
        self.with(|all| {
            all.connections.with_label_values(&[pool, "allowed"]).inc_by(more.allowed);
            all.connections.with_label_values(&[pool, "denied"]).inc_by(more.denied);
            all.received.with_label_values(&[machine.as_str()]).inc_by(more.received_bytes);
            all.sent.with_label_values(&[machine.as_str()]).inc_by(more.sent_bytes);
        });
    }

    /// A machine is gone, or its process was replaced, so its counters end.
    pub fn machine_gone(&self, machine: &DomainName) {
        self.with(|all| all.forget_traffic(machine.as_str()));
    }

    /// A write to the API server was sent.
    pub fn api_write(&self, kind: Kind, verb: Verb) {
        self.with(|all| all.api_writes.with_label_values(&[kind.as_str(), verb.as_str()]).inc());
    }

    /// The space that the control plane's store takes.
    pub fn store(&self, usage: StoreUsage) {
        let parts =
            [("file", usage.file_bytes), ("used", usage.used_bytes), ("quota", usage.quota_bytes)];
        self.with(|all| {
            for (part, bytes) in parts {
                all.store.with_label_values(&[part]).set(signed(bytes));
            }
        });
    }

    /// A reconcile ended, with any result.
    pub fn reconciled(&self, kind: &str, took: Duration) {
        self.with(|all| all.reconcile.with_label_values(&[kind]).observe(took.as_secs_f64()));
    }

    /// A reconcile failed. `error` is from a closed set.
    pub fn reconcile_failed(&self, kind: &str, error: &str) {
        self.with(|all| all.reconcile_errors.with_label_values(&[kind, error]).inc());
    }

    /// Forgets pools that are gone, with their machines. Takes names in the form of [`pool_id`].
    pub fn keep_pools(&self, exists: impl Fn(&str) -> bool) {
        let Some(inner) = &self.0 else { return };
        inner.families.keep_pools(&exists);
        let gone: Vec<String> =
            inner.machines().keys().filter(|pool| !exists(pool)).cloned().collect();
        for pool in gone {
            self.machines(&pool, &[]);
        }
    }

    /// All metrics in the format of Prometheus.
    pub fn text(&self) -> String {
        self.0.as_ref().map(|inner| inner.families.text()).unwrap_or_default()
    }
}

impl Inner {
    fn machines(&self) -> MutexGuard<'_, HashMap<String, HashSet<String>>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
