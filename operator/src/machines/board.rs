//! What everyone may know of the machines of this node: one map, read and changed under one short lock.
//!
//! Taking a machine is a pop from this map: no call leaves the process.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    sync::Arc,
};

use agentvm_core::{
    names::{DomainName, GoldenKey},
    network::Nic,
    pool::SlotSeen,
    retry::Backoff,
    run::{Claim, FinishedAttempt},
};
use agentvm_crds::{PoolReason, ResetStatus};
use agentvm_hypervisor::{MachineLimits, Resources, Tier, Usage};
use agentvm_types::{NodeName, Nonce, PoolUid, RunUid};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{
    life::Life,
    order::Order,
    urgent::{Claiming, Claims},
    ways::Ways,
};
use crate::network::PoolNetwork;

/// A slot of a pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotKey {
    pub pool_uid: PoolUid,
    pub slot: u32,
}

/// What a machine's task is told.
#[derive(Debug)]
pub enum Command {
    /// The claim is durable: execute, or find out how far it is.
    Drive(Box<Order>),
    /// Stop what it executes; the attempt ends with this cause.
    Stop(agentvm_core::run::StopCause),
    /// End the machine.
    Release,
}

/// A machine as the board knows it.
#[derive(Debug)]
pub struct Entry {
    pub name: DomainName,
    pub nonce: Nonce,
    pub golden: GoldenKey,
    pub size: Resources,
    pub life: Life,
    /// What proves it; none before it was proven.
    pub reset: Option<ResetStatus>,
    /// Its network device, and whom its guest asks for names; as far as it is idle.
    pub nic: Option<Nic>,
    pub resolvers: Vec<Ipv4Addr>,
    /// What its process is held to; not known of one that was found.
    pub limits: Option<MachineLimits>,
    /// What it cost when it was asked last.
    pub usage: Option<Usage>,
    /// From the pop to the acknowledgement of EXECUTE; the task takes it over.
    pub claiming: Option<Claiming>,
    pub commands: mpsc::UnboundedSender<Command>,
}

/// What the board says of a machine from when it is idle.
#[derive(Clone, Debug, Default)]
pub struct Idle {
    pub reset: ResetStatus,
    pub nic: Option<Nic>,
    pub resolvers: Vec<Ipv4Addr>,
}

/// Failures in a row to make machines of a pool.
#[derive(Clone, Debug)]
pub struct Trouble {
    pub failures: u32,
    pub reason: PoolReason,
    pub message: String,
    pub hold_until: Timestamp,
}

/// What is seen of an attempt on this node.
#[derive(Clone, Debug)]
pub enum AttemptView {
    Claimed,
    Driven,
    Ended(Arc<FinishedAttempt>),
}

/// The map.
#[derive(Debug, Default)]
pub struct Board {
    slots: BTreeMap<SlotKey, Entry>,
    /// Which way machines go.
    pub ways: Ways,
    /// Claims under way, which everything else lets pass.
    pub claims: Claims,
    trouble: HashMap<PoolUid, Trouble>,
}

impl Board {
    /// Puts a machine in the making into an empty slot; `false` when the slot is taken.
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

    pub fn set_life(&mut self, key: &SlotKey, life: Life) {
        if let Some(entry) = self.slots.get_mut(key) {
            entry.life = life;
        }
    }

    /// Prepared and proven: idle.
    pub fn set_idle(&mut self, key: &SlotKey, idle: Idle, now: Timestamp) {
        if let Some(entry) = self.slots.get_mut(key) {
            entry.life = Life::Idle { since: now };
            entry.reset = Some(idle.reset);
            (entry.nic, entry.resolvers) = (idle.nic, idle.resolvers);
        }
    }

    /// Idle machines of a pool that are connected in another way than it wants by now.
    pub fn otherwise_connected(&self, pool_uid: &PoolUid, wanted: &PoolNetwork) -> Vec<u32> {
        let idle = self
            .slots
            .iter()
            .filter(|(key, e)| key.pool_uid == *pool_uid && matches!(e.life, Life::Idle { .. }));
        let fits = |e: &Entry| {
            wanted.attachment.fits(e.nic.as_ref())
                && (e.nic.is_none() || e.resolvers == wanted.resolvers)
        };
        idle.filter(|(_, entry)| !fits(entry)).map(|(key, _)| key.slot).collect()
    }

    /// Machines of a pool that aren't held to what it wants by now, with their nonces. Those that are being made or brought back are told
    /// as that is done.
    pub fn otherwise_limited(
        &self,
        pool_uid: &PoolUid,
        wanted: &MachineLimits,
    ) -> Vec<(SlotKey, DomainName, Nonce)> {
        let settled = |life: &Life| matches!(life, Life::Idle { .. }) || life.run().is_some();
        let of_pool =
            self.slots.iter().filter(|(key, e)| key.pool_uid == *pool_uid && settled(&e.life));
        let others = of_pool.filter(|(_, entry)| entry.limits.as_ref() != Some(wanted));
        others.map(|(key, entry)| (key.clone(), entry.name.clone(), entry.nonce.clone())).collect()
    }

    /// Of this incarnation, and no other that has come into its place since.
    pub fn set_limits(&mut self, key: &SlotKey, nonce: &Nonce, limits: MachineLimits) {
        if let Some(entry) = self.slots.get_mut(key).filter(|entry| entry.nonce == *nonce) {
            entry.limits = Some(limits);
        }
    }

    /// The run's machine is on its way to become another incarnation: nobody finds it by its old nonce from here on.
    pub fn renew(&mut self, key: &SlotKey, nonce: &Nonce) {
        if let Some(entry) = self.slots.get_mut(key) {
            entry.life = Life::Resetting;
            entry.nonce = nonce.clone();
            entry.reset = None;
        }
    }

    pub fn is_idle(&self, key: &SlotKey) -> bool {
        self.slots.get(key).is_some_and(|entry| matches!(entry.life, Life::Idle { .. }))
    }

    pub fn take_claiming(&mut self, key: &SlotKey) -> Option<Claiming> {
        self.slots.get_mut(key).and_then(|entry| entry.claiming.take())
    }

    pub fn set_usage(&mut self, key: &SlotKey, usage: Usage) {
        if let Some(entry) = self.slots.get_mut(key) {
            entry.usage = Some(usage);
        }
    }

    /// What the idle machines of a pool cost, as far as they were asked.
    pub fn usage(&self, pool_uid: &PoolUid) -> Vec<(DomainName, Usage)> {
        let idle = self
            .slots
            .iter()
            .filter(|(key, e)| key.pool_uid == *pool_uid && matches!(e.life, Life::Idle { .. }));
        idle.filter_map(|(_, entry)| Some((entry.name.clone(), entry.usage?))).collect()
    }

    /// Takes the machine that has waited longest. A run that has one already gets the same again.
    pub fn acquire(&mut self, pool_uid: &PoolUid, run: &RunUid, node: &NodeName) -> Option<Claim> {
        if let Some(entry) = self.slots.values().find(|e| e.life.run() == Some(run)) {
            return matches!(entry.life, Life::Claimed { .. }).then(|| claim(entry, node));
        }
        let oldest = self
            .slots
            .iter_mut()
            .filter(|(key, _)| key.pool_uid == *pool_uid)
            .filter_map(|(_, entry)| match entry.life {
                Life::Idle { since } => Some((since, entry)),
                _ => None,
            })
            .min_by_key(|(since, _)| *since);
        let claims = &self.claims;
        oldest.map(|(_, entry)| {
            entry.life = Life::Claimed { run: run.clone() };
            entry.claiming = Some(claims.begin());
            claim(entry, node)
        })
    }

    pub fn holds(&self, run: &RunUid) -> bool {
        self.slots.values().any(|entry| matches!(&entry.life, Life::Claimed { run: r } if r == run))
    }

    /// A claim that did not become durable: the machine is idle again.
    pub fn give_back(&mut self, run: &RunUid, now: Timestamp) {
        for entry in self.slots.values_mut() {
            if matches!(&entry.life, Life::Claimed { run: r } if r == run) {
                entry.life = Life::Idle { since: now };
                entry.claiming = None;
            }
        }
    }

    pub fn attempt(&self, run: &RunUid, nonce: &Nonce) -> Option<AttemptView> {
        let entry = self.slots.values().find(|e| e.life.run() == Some(run) && e.nonce == *nonce)?;
        match &entry.life {
            Life::Claimed { .. } => Some(AttemptView::Claimed),
            Life::Driven { .. } => Some(AttemptView::Driven),
            Life::Ended { done, .. } => Some(AttemptView::Ended(done.clone())),
            Life::Creating
            | Life::Idle { .. }
            | Life::Resetting
            | Life::Quarantined { .. }
            | Life::Ending => None,
        }
    }

    /// Sends a command to the machine that a run has.
    pub fn tell_run(&self, run: &RunUid, command: Command) -> bool {
        let entry = self.slots.values().find(|e| e.life.run() == Some(run));
        entry.is_some_and(|e| e.commands.send(command).is_ok())
    }

    /// Ends idle and quarantined machines of these slots; one that was claimed meanwhile stays.
    pub fn retire(&mut self, pool_uid: &PoolUid, slots: &[u32]) {
        for (key, entry) in &mut self.slots {
            if key.pool_uid == *pool_uid && slots.contains(&key.slot) && entry.life.may_retire() {
                entry.life = Life::Ending;
                let _ = entry.commands.send(Command::Release);
            }
        }
    }

    pub fn seen(&self, pool_uid: &PoolUid) -> BTreeMap<u32, SlotSeen> {
        let of_pool = self.slots.iter().filter(|(key, _)| key.pool_uid == *pool_uid);
        of_pool
            .map(|(key, entry)| {
                let seen = match &entry.life {
                    Life::Creating => SlotSeen::Creating,
                    Life::Idle { since } => {
                        SlotSeen::Idle { since: *since, golden: entry.golden.clone() }
                    }
                    Life::Claimed { .. } | Life::Driven { .. } => SlotSeen::Claimed,
                    Life::Resetting => SlotSeen::Resetting,
                    Life::Quarantined { until } => SlotSeen::Quarantined { until: *until },
                    Life::Ended { .. } | Life::Ending => SlotSeen::Ending,
                };
                (key.slot, seen)
            })
            .collect()
    }

    /// Idle machines and all machines of a pool.
    pub fn numbers(&self, pool_uid: &PoolUid) -> (u32, u32) {
        let of_pool = || self.slots.iter().filter(|(key, _)| key.pool_uid == *pool_uid);
        let free = of_pool().filter(|(_, e)| matches!(e.life, Life::Idle { .. })).count();
        (count(free), count(of_pool().count()))
    }

    /// Machines and MiB in use by all pools.
    pub fn in_use(&self) -> (u32, u64) {
        let memory = self.slots.values().map(|e| u64::from(e.size.memory_mib)).sum();
        (count(self.slots.len()), memory)
    }

    /// Pools that have machines, and runs that have one.
    pub fn owners(&self) -> (Vec<PoolUid>, Vec<RunUid>) {
        let pools = self.slots.keys().map(|key| key.pool_uid.clone()).collect();
        let runs = self.slots.values().filter_map(|e| e.life.run().cloned()).collect();
        (pools, runs)
    }

    pub fn goldens_in_use(&self) -> Vec<GoldenKey> {
        self.slots.values().map(|e| e.golden.clone()).collect()
    }

    /// Tells every machine to end.
    pub fn release_all(&mut self) {
        for entry in self.slots.values() {
            let _ = entry.commands.send(Command::Release);
        }
    }

    pub fn trouble(&self, pool_uid: &PoolUid) -> Option<Trouble> {
        self.trouble.get(pool_uid).cloned()
    }

    /// A machine of the pool was made or brought back. Only the former says that machines can be made again.
    pub fn note_success(&mut self, pool_uid: &PoolUid, tier: Tier, now: Timestamp) {
        if tier != Tier::InPlace {
            self.trouble.remove(pool_uid);
        }
        self.ways.note(pool_uid, tier, Ok(()), now);
    }

    /// Notes a failure; the next machine of the pool waits longer each time. Those that were being made at the same time
    /// fail for the same reason: they count once.
    pub fn note_trouble(
        &mut self,
        pool_uid: &PoolUid,
        reason: PoolReason,
        message: String,
        now: Timestamp,
    ) {
        if let Some(trouble) =
            self.trouble.get_mut(pool_uid).filter(|trouble| now < trouble.hold_until)
        {
            (trouble.reason, trouble.message) = (reason, message);
            return;
        }
        let failures = self.trouble.get(pool_uid).map_or(1, |t| t.failures.saturating_add(1));
        let delay = Backoff::MACHINE.after(failures, pool_uid.as_str());
        let hold_until = now.checked_add(delay).unwrap_or(now);
        self.trouble.insert(pool_uid.clone(), Trouble { failures, reason, message, hold_until });
    }
}

fn claim(entry: &Entry, node: &NodeName) -> Claim {
    Claim {
        node: node.clone(),
        vm: entry.name.clone(),
        nonce: entry.nonce.clone(),
        reset: entry.reset.clone(),
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
