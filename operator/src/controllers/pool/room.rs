//! The node's room for machines, divided between namespaces. One lock holds while room is counted
//! and taken, so that reconciles at the same time cannot take more than there is.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use agentvm_core::{
    fair_share::{Want, divide},
    pool::{Budget, InUse, Room, room},
};
use agentvm_types::PoolUid;

use crate::machines::Machines;

/// The wish of a pool, and the machines that it lacked when the others were told last.
#[derive(Debug)]
struct Wish {
    want: Want<PoolUid>,
    told: u32,
}

/// The wishes of all pools on this node.
#[derive(Debug, Default)]
struct Wishes(BTreeMap<PoolUid, Wish>);

/// The node's room.
#[derive(Debug)]
pub struct NodeRoom {
    budget: Budget,
    wishes: Mutex<Wishes>,
}

/// The part of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The machines that it may make now.
    pub room: Room,
    /// The number of machines that it may have: set where it has more, and others lack them.
    pub yield_to: Option<u32>,
}

/// The right to make machines, until this is dropped.
#[derive(Debug)]
pub struct Permit<'a> {
    _wishes: MutexGuard<'a, Wishes>,
    /// The machines of this size that fit.
    pub machines: u32,
}

impl NodeRoom {
    pub fn new(budget: Budget) -> Self {
        Self { budget, wishes: Mutex::default() }
    }

    /// Notes the wish of a pool that has `has` machines. `addresses` is the room in its subnet.
    pub fn part(
        &self,
        want: Want<PoolUid>,
        has: u32,
        addresses: Option<Room>,
        machines: &Machines,
    ) -> Part {
        let mut wishes = self.wishes();
        let (pool, memory_mib) = (want.pool.clone(), want.memory_mib);
        let namespace = want.namespace.clone();
        let told = wishes.0.get(&pool).map_or(0, |wish| wish.told);
        wishes.0.insert(pool.clone(), Wish { want, told });
        let fits = room(self.budget, in_use(machines), memory_mib, addresses);
        let mut wants: Vec<Want<PoolUid>> =
            wishes.0.values().map(|wish| wish.want.clone()).collect();
        wants.sort_by(|a, b| (&a.namespace, &a.pool).cmp(&(&b.namespace, &b.pool)));
        let shares = divide(self.budget, &wants);
        let all = || wants.iter().zip(shares.iter().copied());
        let count = |it: &Want<PoolUid>| machines.numbers(&it.pool).total;
        // The pools of a namespace take machines from its share as they come.
        let mine = || all().filter(|(it, _)| it.namespace == namespace);
        let share = mine().map(|(_, share)| share).sum::<u32>();
        let others = mine().filter(|(it, _)| it.pool != pool).map(|(it, _)| count(it)).sum::<u32>();
        let beyond = has.saturating_add(others).saturating_sub(share);
        let by_share = share.saturating_sub(has.saturating_add(others));
        let lacks = by_share.saturating_sub(fits.machines);
        if lacks > told {
            // Other namespaces have what is this one's share.
            for (other, share) in all().filter(|(other, _)| other.namespace != namespace) {
                if count(other) > share {
                    machines.wake_pool(&other.pool);
                }
            }
        }
        if let Some(wish) = wishes.0.get_mut(&pool) {
            wish.told = lacks;
        }
        let yields = beyond > 0 && self.others_lack(all(), &namespace, machines);
        let room = if by_share < fits.machines {
            Room { machines: by_share, limit: "the namespace's share of the node".to_owned() }
        } else {
            fits
        };
        Part { room, yield_to: yields.then(|| has.saturating_sub(beyond)) }
    }

    /// Whether other namespaces have less than their shares, and there is no room to fill them.
    fn others_lack<'a>(
        &self,
        all: impl Iterator<Item = (&'a Want<PoolUid>, u32)>,
        namespace: &str,
        machines: &Machines,
    ) -> bool {
        let in_use = in_use(machines);
        let mut free = self.budget.machines.saturating_sub(in_use.machines);
        let mut memory = self.budget.memory_mib.saturating_sub(in_use.memory_mib);
        all.filter(|(other, _)| other.namespace != namespace).any(|(other, share)| {
            let lacks = share.saturating_sub(machines.numbers(&other.pool).total);
            let bytes = u64::from(lacks) * u64::from(other.memory_mib);
            let short = lacks > free || bytes > memory;
            free = free.saturating_sub(lacks);
            memory = memory.saturating_sub(bytes);
            short
        })
    }

    /// The right to make machines of this size. Each is in use as soon as it is begun.
    pub fn permit(&self, memory_mib: u32, machines: &Machines) -> Permit<'_> {
        let wishes = self.wishes();
        let fits = room(self.budget, in_use(machines), memory_mib, None).machines;
        Permit { _wishes: wishes, machines: fits }
    }

    /// The pool can have no machine at the moment, so it wishes for none.
    pub fn forget(&self, pool: &PoolUid) {
        self.wishes().0.remove(pool);
    }

    /// Forgets pools that are gone.
    pub fn keep(&self, exists: impl Fn(&PoolUid) -> bool) {
        self.wishes().0.retain(|pool, _| exists(pool));
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_use(machines: &Machines) -> InUse {
    let (machines, memory_mib) = machines.in_use();
    InUse { machines, memory_mib }
}
