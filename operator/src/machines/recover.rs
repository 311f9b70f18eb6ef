//! After a restart: every machine of this installation that still exists is taken over, before a
//! new one is made.
//!
//! - A machine whose nonce stands in the open attempt of a run belongs to that run. The run's
//!   reconcile executes it further.
//! - A machine that was parked with its evidence and never resumed since is idle again. Its agent
//!   is not asked: the machine could not have changed.
//! - A machine in quarantine stays there.
//! - Any other machine goes: it may have executed something since it was proven.

use std::collections::HashMap;

use agentvm_core::machine::{Evidence, Incarnation, Life};
use agentvm_hypervisor::{
    Golden, HvError, Machine, MachineKind, Mark, PowerState, Resources, Stop,
};
use agentvm_types::{Nonce, RunUid};
use jiff::Timestamp;

use super::{Machines, task::Origin};

/// The numbers of machines that were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub claimed: usize,
    pub idle: usize,
    pub quarantined: usize,
    /// Machines whose state nothing proves: they go.
    pub lost: usize,
    /// Templates of captures that did not end: they go.
    pub templates: usize,
}

impl Machines {
    /// Takes the machines over. `open` maps the nonces of open attempts to their runs.
    pub async fn recover(
        &self,
        open: &HashMap<Nonce, RunUid>,
        goldens: &[Golden],
    ) -> Result<Found, HvError> {
        let mut found = Found::default();
        for machine in self.inner.hv.list().await? {
            if machine.record.kind == MachineKind::Template {
                self.inner.hv.destroy(&machine.record.name, Stop::Force).await?;
                found.templates += 1;
                continue;
            }
            let golden = goldens.iter().find(|golden| golden.key == machine.record.golden);
            let size = golden.map_or_else(unknown_size, |golden| golden.resources);
            let guest = golden.map(|golden| golden.guest.clone()).unwrap_or_default();
            let (life, origin) = birth(&machine, open);
            let counter = match origin {
                Origin::FoundClaimed => &mut found.claimed,
                Origin::FoundParked(_) => &mut found.idle,
                Origin::FoundQuarantined { .. } => &mut found.quarantined,
                _ => &mut found.lost,
            };
            *counter += 1;
            self.inner.network.take_over(&machine.record);
            self.spawn(machine.record, size, guest, life, origin);
        }
        Ok(found)
    }
}

/// The state in which a machine's life begins anew, for this operator.
fn birth(machine: &Machine, open: &HashMap<Nonce, RunUid>) -> (Life, Origin) {
    let lost = |why: &str| (Life::Ending, Origin::FoundLost { why: why.to_owned() });
    let nonce = &machine.record.nonce;
    if let Some(run) = open.get(nonce) {
        let incarnation = Incarnation { nonce: nonce.clone(), limits: None };
        return (Life::Found { run: run.clone(), incarnation }, Origin::FoundClaimed);
    }
    match (&machine.mark, &machine.state) {
        (Mark::Parked { evidence }, PowerState::Paused) => {
            match serde_json::from_str::<Evidence>(evidence) {
                Ok(evidence) => (Life::Creating, Origin::FoundParked(evidence)),
                Err(_) => lost("what proves it is damaged"),
            }
        }
        (Mark::Quarantined { until, .. }, _) => {
            let until = Timestamp::from_second(*until).unwrap_or(Timestamp::MIN);
            (Life::Quarantined { until }, Origin::FoundQuarantined { until })
        }
        (_, PowerState::Dead { why }) => lost(why),
        _ => lost("nothing proves its state"),
    }
}

/// The size of a machine whose golden is gone. It counts as one machine; its memory is not known.
fn unknown_size() -> Resources {
    Resources { vcpus: 0, memory_mib: 0, disk_gib: 0, cpu_shares: 0 }
}

#[cfg(test)]
mod tests {
    use agentvm_core::names::{DomainName, GoldenKey, InstanceId};
    use agentvm_crds::ResetStatus;
    use agentvm_hypervisor::MachineRecord;
    use agentvm_types::{OwnerUid, PoolUid, Token};

    use super::*;

    fn machine(state: PowerState, mark: Mark) -> Machine {
        let instance = InstanceId::for_state_dir("/x");
        let record = MachineRecord {
            name: DomainName::for_slot(&instance, &PoolUid::new("pool"), 0),
            instance,
            kind: MachineKind::Pool,
            namespace: "default".into(),
            owner: "pool".into(),
            owner_uid: OwnerUid::new("pool"),
            slot: 0,
            golden: GoldenKey::from_recorded("g"),
            nonce: Nonce::from_bytes([1; 16]),
            token: Token::new("t"),
            created: 0,
            nic: None,
        };
        Machine { record, state, mark }
    }

    #[test]
    fn only_what_is_parked_with_its_proof_is_idle_again() {
        let evidence = serde_json::to_string(&Evidence {
            reset: ResetStatus::default(),
            reuses: 3,
            resolvers: vec![],
        })
        .unwrap();
        let parked = |evidence: &str| Mark::Parked { evidence: evidence.to_owned() };
        let kept = Mark::Quarantined { until: 9, why: "disk".into() };
        let dead = || PowerState::Dead { why: "its reset was interrupted".into() };
        let origin = |state, mark| birth(&machine(state, mark), &HashMap::new()).1;
        assert!(matches!(origin(PowerState::Paused, parked(&evidence)),
                Origin::FoundParked(e) if e.reuses == 3));
        for lost in [
            origin(PowerState::Paused, parked("{}")),
            origin(PowerState::Running, parked(&evidence)),
            origin(dead(), parked(&evidence)),
            origin(PowerState::Paused, Mark::None),
            origin(PowerState::Running, Mark::None),
        ] {
            assert!(matches!(lost, Origin::FoundLost { .. }), "{lost:?}");
        }
        for state in [PowerState::Paused, dead()] {
            assert!(matches!(origin(state, kept.clone()), Origin::FoundQuarantined { .. }));
        }
        let open = HashMap::from([(Nonce::from_bytes([1; 16]), RunUid::new("run"))]);
        let of_run = birth(&machine(PowerState::Paused, parked(&evidence)), &open);
        assert!(matches!(of_run, (Life::Found { .. }, Origin::FoundClaimed)));
    }
}
