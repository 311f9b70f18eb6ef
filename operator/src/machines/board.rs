//! The board: a map from slots to machines, read and changed under one short lock.
//!
//! A run takes a machine by a change of this map: no call leaves the process. Each change of a life
//! is an event of the diagram in `agentvm_core::machine`.

use std::{collections::BTreeMap, sync::Arc};

use agentvm_core::{
    machine::{self, Admission, Event, Illegal, Life, Prepared, admit},
    names::{DomainName, GoldenKey},
    pool::SlotSeen,
    run::{AttemptState, Claim, FinishedAttempt},
};
use agentvm_hypervisor::{MachineRecord, Usage};
use agentvm_types::{MachineLimits, NodeId, NodeName, Nonce, PoolUid, Resources, RunUid};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{
    claim_priority::{ClaimGate, ClaimGuard},
    commands::MachineCommand,
};
use crate::{api::NotWritten, network::PoolNetwork};

/// A slot of a pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotKey {
    pub pool_uid: PoolUid,
    pub slot: u32,
}

/// A machine on the board.
#[derive(Debug)]
pub struct Entry {
    name: DomainName,
    golden: GoldenKey,
    size: Resources,
    life: Life,
    /// The cost of the machine's process, when the host was asked last.
    usage: Option<Usage>,
    /// The claim under way. The task takes it over; it is dropped at the latest with the claim.
    claim: Option<ClaimGuard>,
    /// The nonce may stand in the run's status, though no write of it was confirmed. Such a nonce
    /// is never lent to another run.
    doubted: bool,
    commands: mpsc::UnboundedSender<MachineCommand>,
}

impl Entry {
    pub fn new(
        record: &MachineRecord,
        size: Resources,
        life: Life,
        commands: mpsc::UnboundedSender<MachineCommand>,
    ) -> Self {
        let (name, golden) = (record.name.clone(), record.golden.clone());
        Self { name, golden, size, life, usage: None, claim: None, doubted: false, commands }
    }

    /// Follows an arrow of the diagram. Without an arrow the life stays.
    fn on(&mut self, event: Event) -> Result<(), Illegal> {
        self.life = self.life.clone().on(event)?;
        if machine::owner(&self.life).is_none() {
            self.claim = None;
            self.doubted = false;
        }
        Ok(())
    }

    /// Follows an arrow that has to exist. If the diagram does not have it, the caller has a
    /// defect: it is logged, and the life stays.
    fn must(&mut self, event: Event) -> bool {
        let done = self.on(event);
        if let Err(why) = &done {
            tracing::error!(machine = %self.name, "{why}");
        }
        done.is_ok()
    }

    fn send(&self, command: MachineCommand) -> bool {
        self.commands.send(command).is_ok()
    }

    fn claimed(&self, (node, node_id): (&NodeName, &NodeId)) -> Option<Claim> {
        let (nonce, reset) = match &self.life {
            Life::Claimed { prepared, .. } => {
                (&prepared.incarnation.nonce, Some(prepared.evidence.reset.clone()))
            }
            // Its proof was on the host, and is void since the machine was resumed.
            Life::Found { incarnation, .. }
            | Life::Executing { incarnation, .. }
            | Life::Ended { incarnation, .. } => (&incarnation.nonce, None),
            Life::Creating
            | Life::Idle(_)
            | Life::Resetting { .. }
            | Life::Quarantined { .. }
            | Life::Ending => return None,
        };
        let (node, node_id) = (node.clone(), node_id.clone());
        let (vm, nonce) = (self.name.clone(), nonce.clone());
        Some(Claim { node, node_id, vm, nonce, reset })
    }
}

/// The map.
#[derive(Debug, Default)]
pub struct Board {
    slots: BTreeMap<SlotKey, Entry>,
    /// Nonces of claims that ended without a word to their machines. Such a claim may still turn
    /// up in a status, and its attempt was certainly never started.
    never_sent: BTreeMap<RunUid, Vec<Nonce>>,
}

/// The machine's side of an attempt that the run's status may not know.
#[derive(Debug)]
pub struct Work {
    pub claim: Claim,
    /// `None` while it executes.
    pub done: Option<Arc<FinishedAttempt>>,
}

impl Board {
    /// Puts a machine into an empty slot; `false` when the slot is taken.
    pub fn insert(&mut self, key: SlotKey, entry: Entry) -> bool {
        if self.slots.contains_key(&key) {
            return false;
        }
        self.slots.insert(key, entry);
        true
    }

    pub fn remove(&mut self, key: &SlotKey) {
        self.slots.remove(key);
    }

    /// Follows an arrow of a machine's life. `false`: there is no such arrow, and the life stays.
    pub fn on(&mut self, key: &SlotKey, event: Event) -> bool {
        self.slots.get_mut(key).is_some_and(|entry| entry.must(event))
    }

    /// Decides about a command that has arrived at its machine. An accepted command takes effect
    /// under the same lock, so nothing comes between.
    pub fn obey(&mut self, key: &SlotKey, command: &MachineCommand) -> Admission {
        // A machine without an entry is gone.
        let Some(entry) = self.slots.get_mut(key) else { return admit(&Life::Ending, command) };
        let admission = admit(&entry.life, command);
        let event = match command {
            _ if admission != Admission::Accept => return admission,
            MachineCommand::Execute { .. } => Event::Execute,
            MachineCommand::Stop { cause, .. } => Event::Stop(*cause),
            // The task changes the life when it knows whether the machine is reset or removed.
            MachineCommand::Release { .. } | MachineCommand::End => return admission,
        };
        entry.must(event);
        admission
    }

    /// The idle machines of a pool whose network is not the wanted one.
    pub fn with_stale_network(&self, pool: &PoolUid, wanted: &PoolNetwork) -> Vec<u32> {
        let stale = |entry: &Entry| match &entry.life {
            Life::Idle(prepared) => !fits(prepared, wanted),
            _ => false,
        };
        self.of_pool(pool).filter(|(_, entry)| stale(entry)).map(|(key, _)| key.slot).collect()
    }

    /// The machines of a pool that are held to other limits than the wanted ones, with their
    /// nonces. A machine that is made or reset is not among them: it gets its limits then.
    pub fn with_stale_limits(
        &self,
        pool: &PoolUid,
        wanted: &MachineLimits,
    ) -> Vec<(SlotKey, DomainName, Nonce)> {
        let known = self.of_pool(pool).filter_map(|(key, e)| Some((key, e, e.life.incarnation()?)));
        let stale = known.filter(|(.., incarnation)| incarnation.limits.as_ref() != Some(wanted));
        stale.map(|(key, entry, it)| (key.clone(), entry.name.clone(), it.nonce.clone())).collect()
    }

    /// Notes new limits of this incarnation, and of no other that has come into its place since.
    pub fn set_limits(&mut self, key: &SlotKey, nonce: &Nonce, limits: MachineLimits) {
        if let Some(entry) = self.slots.get_mut(key) {
            entry.life.set_limits(nonce, limits);
        }
    }

    pub fn is_idle(&self, key: &SlotKey) -> bool {
        self.slots.get(key).is_some_and(|entry| machine::is_idle(&entry.life))
    }

    pub fn take_claim(&mut self, key: &SlotKey) -> Option<ClaimGuard> {
        self.slots.get_mut(key).and_then(|entry| entry.claim.take())
    }

    pub fn set_usage(&mut self, key: &SlotKey, usage: Usage) {
        if let Some(entry) = self.slots.get_mut(key) {
            entry.usage = Some(usage);
        }
    }

    /// The cost of the idle machines of a pool, as far as the host was asked.
    pub fn usage(&self, pool: &PoolUid) -> Vec<(DomainName, Usage)> {
        let idle = self.of_pool(pool).filter(|(_, entry)| machine::is_idle(&entry.life));
        idle.filter_map(|(_, entry)| Some((entry.name.clone(), entry.usage?))).collect()
    }

    /// Takes the machine that has waited longest. A run that has a machine gets the same one again,
    /// as long as nothing was sent to it.
    pub fn acquire(
        &mut self,
        pool: &PoolUid,
        run: &RunUid,
        node: (&NodeName, &NodeId),
        claims: &ClaimGate,
    ) -> Option<Claim> {
        if let Some(entry) = self.of_run(run) {
            return machine::is_held_for(&entry.life, run).then(|| entry.claimed(node)).flatten();
        }
        let idle = self.slots.iter_mut().filter(|(key, _)| key.pool_uid == *pool);
        let idle = idle.filter_map(|(_, entry)| match &entry.life {
            Life::Idle(prepared) => Some((prepared.since, entry)),
            _ => None,
        });
        let (_, entry) = idle.min_by_key(|(since, _)| *since)?;
        entry.on(Event::Claim { run: run.clone() }).ok()?;
        entry.claim = Some(claims.begin());
        entry.claimed(node)
    }

    pub fn holds(&self, run: &RunUid) -> bool {
        self.slots.values().any(|entry| machine::is_held_for(&entry.life, run))
    }

    /// The claim of this run may be durable or not. Its machine stays with it, and other machines
    /// do not wait for it any more.
    pub fn doubt(&mut self, run: &RunUid) {
        if let Some(entry) = self.claimed_by(run) {
            entry.doubted = true;
            entry.claim = None;
        }
    }

    /// The claim is certainly not durable: the machine is idle again. A machine whose nonce may
    /// stand in a status goes. A machine that was found after a restart stays: it may have
    /// executed.
    pub fn give_back(&mut self, run: &RunUid, proof: NotWritten, now: Timestamp) {
        let Some(entry) = self.claimed_by(run) else { return };
        if entry.doubted || !proof.was_refused() {
            self.discard(run);
        } else {
            entry.must(Event::GiveBack { now });
        }
    }

    /// Ends the claim of a run to which nothing was sent, and its machine with it: the nonce may
    /// stand in a status.
    pub fn discard(&mut self, run: &RunUid) {
        let Some(entry) = self.claimed_by(run) else { return };
        let Some(nonce) = entry.life.incarnation().map(|it| it.nonce.clone()) else { return };
        if entry.must(Event::Remove) {
            entry.send(MachineCommand::End);
            self.never_sent.entry(run.clone()).or_default().push(nonce);
        }
    }

    /// Forgets the unsent claims of runs that are gone.
    pub fn keep_runs(&mut self, exists: impl Fn(&RunUid) -> bool) {
        self.never_sent.retain(|run, _| exists(run));
    }

    /// The incarnation that a run has.
    pub fn held_by(&self, run: &RunUid) -> Option<Nonce> {
        self.of_run(run)?.life.incarnation().map(|it| it.nonce.clone())
    }

    /// The machines that may execute a run at this moment.
    pub fn may_execute(&self) -> Vec<DomainName> {
        let busy = |life: &Life| {
            matches!(life, Life::Claimed { .. } | Life::Found { .. } | Life::Executing { .. })
        };
        self.slots.values().filter(|e| busy(&e.life)).map(|e| e.name.clone()).collect()
    }

    pub fn attempt(&self, run: &RunUid, nonce: &Nonce) -> Option<AttemptState> {
        let on_board =
            self.slots.values().find_map(|entry| machine::attempt(&entry.life, run, nonce));
        on_board.or_else(|| {
            let unsent = self.never_sent.get(run).is_some_and(|nonces| nonces.contains(nonce));
            unsent.then(|| AttemptState::Ended(Arc::new(FinishedAttempt::never_sent())))
        })
    }

    /// The attempt that a machine executes or has executed for this run.
    pub fn work_of(&self, run: &RunUid, node: (&NodeName, &NodeId)) -> Option<Work> {
        let entry = self.of_run(run)?;
        let done = match &entry.life {
            Life::Executing { .. } => None,
            Life::Ended { done, .. } => Some(done.clone()),
            _ => return None,
        };
        Some(Work { claim: entry.claimed(node)?, done })
    }

    /// Sends a command to the machine that a run has. `command` gets the nonce of its incarnation.
    pub fn tell_run(&self, run: &RunUid, command: impl FnOnce(Nonce) -> MachineCommand) -> bool {
        self.of_run(run).is_some_and(|entry| {
            let nonce = entry.life.incarnation().map(|it| it.nonce.clone());
            nonce.is_some_and(|nonce| entry.send(command(nonce)))
        })
    }

    /// Ends a machine that is idle or in quarantine. `false`: it is in another state, and stays.
    pub fn retire(&mut self, key: &SlotKey) -> bool {
        let entry = self.slots.get_mut(key);
        entry.is_some_and(|entry| {
            let retired = entry.on(Event::Retire).is_ok();
            if retired {
                entry.send(MachineCommand::End);
            }
            retired
        })
    }

    pub fn seen(&self, pool: &PoolUid) -> BTreeMap<u32, SlotSeen> {
        let of_pool = self.of_pool(pool);
        of_pool.map(|(key, entry)| (key.slot, machine::slot(&entry.life, &entry.golden))).collect()
    }

    pub fn numbers(&self, pool: &PoolUid) -> machine::Numbers {
        machine::numbers(self.of_pool(pool).map(|(_, entry)| &entry.life))
    }

    /// The machines of all pools, and their memory in MiB.
    pub fn in_use(&self) -> (u32, u64) {
        let memory = self.slots.values().map(|entry| u64::from(entry.size.memory_mib)).sum();
        (machine::numbers(self.slots.values().map(|entry| &entry.life)).total, memory)
    }

    /// The pools that have machines, and the runs that have one.
    pub fn owners(&self) -> (Vec<PoolUid>, Vec<RunUid>) {
        let pools = self.slots.keys().map(|key| key.pool_uid.clone()).collect();
        let runs = self.slots.values().filter_map(|e| machine::owner(&e.life).cloned()).collect();
        (pools, runs)
    }

    /// The machines that execute, with their runs.
    pub fn executing(&self) -> Vec<(DomainName, RunUid)> {
        let executing = |entry: &Entry| match &entry.life {
            Life::Executing { run, stop: None, .. } => Some((entry.name.clone(), run.clone())),
            _ => None,
        };
        self.slots.values().filter_map(executing).collect()
    }

    pub fn goldens_in_use(&self) -> Vec<GoldenKey> {
        self.slots.values().map(|entry| entry.golden.clone()).collect()
    }

    /// Tells every machine to end.
    pub fn end_all(&mut self) {
        for entry in self.slots.values() {
            entry.send(MachineCommand::End);
        }
    }

    fn of_pool(&self, pool: &PoolUid) -> impl Iterator<Item = (&SlotKey, &Entry)> {
        self.slots.iter().filter(move |(key, _)| key.pool_uid == *pool)
    }

    fn claimed_by(&mut self, run: &RunUid) -> Option<&mut Entry> {
        self.slots.values_mut().find(|entry| machine::is_claimed_by(&entry.life, run))
    }

    fn of_run(&self, run: &RunUid) -> Option<&Entry> {
        self.slots.values().find(|entry| machine::owner(&entry.life) == Some(run))
    }
}

/// The guest is told its name servers once, when the machine is prepared.
fn fits(prepared: &Prepared, wanted: &PoolNetwork) -> bool {
    let told = prepared.nic.is_none() || prepared.evidence.resolvers == wanted.resolvers;
    wanted.attachment.fits(prepared.nic.as_ref()) && told
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
