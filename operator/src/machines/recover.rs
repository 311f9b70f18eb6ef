//! After a restart: every machine of this installation that is still there is taken over, before anything new is made.
//!
//! A machine whose nonce stands in the open attempt of a run belongs to that run: the run's reconcile drives it on. Any
//! other one is asked whether it is still unused; if it isn't, it is thrown away.

use std::{collections::HashMap, time::Duration};

use agentvm_hypervisor::{Golden, HvError, MachineKind, Resources, Stop};

use super::{Machines, life::Life, task::Origin};

/// Until the pool says otherwise.
const HEALTH_CHECK: Duration = Duration::from_mins(1);

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub claimed: usize,
    pub idle: usize,
    /// Templates of captures that did not end.
    pub templates: usize,
}

impl Machines {
    /// Takes over what is there. `open` maps the nonces of open attempts to the runs that have them.
    pub async fn recover(&self, open: &HashMap<String, String>, goldens: &[Golden]) -> Result<Found, HvError> {
        let mut found = Found::default();
        for machine in self.inner.hv.list().await? {
            let record = machine.record;
            if record.kind == MachineKind::Template {
                self.inner.hv.destroy(&record.name, Stop::Force).await?;
                found.templates += 1;
                continue;
            }
            let size =
                goldens.iter().find(|g| g.key == record.golden).map_or_else(unknown_size, |g| g.resources.clone());
            if let Some(run) = open.get(&record.nonce) {
                found.claimed += 1;
                let life = Life::Claimed { run: run.clone() };
                self.spawn(record, size, life, Origin::FoundClaimed, HEALTH_CHECK);
            } else {
                found.idle += 1;
                self.spawn(record, size, Life::Creating, Origin::FoundIdle, HEALTH_CHECK);
            }
        }
        Ok(found)
    }
}

/// Of a machine whose golden is gone: it counts as one machine, and its memory isn't known any more.
fn unknown_size() -> Resources {
    Resources { vcpus: 0, memory_mib: 0, disk_gib: 0, cpu_shares: 0 }
}
