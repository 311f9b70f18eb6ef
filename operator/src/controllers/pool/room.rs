//! The node's room for machines, divided between namespaces. One lock holds while room is counted
//! and taken, so that reconciles at the same time cannot take more than there is.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use agentvm_core::{
    fair_share::{self, Holding, Want},
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

    /// Notes the wish of a pool. `addresses` is the room in its subnet.
    pub fn part(&self, want: Want<PoolUid>, addresses: Option<Room>, machines: &Machines) -> Part {
        let mut wishes = self.wishes();
        let (pool, memory_mib) = (want.pool.clone(), want.memory_mib);
        let told = wishes.0.get(&pool).map_or(0, |wish| wish.told);
        wishes.0.insert(pool.clone(), Wish { want, told });
        let holding = |wish: &Wish| Holding {
            want: wish.want.clone(),
            has: machines.numbers(&wish.want.pool).total,
        };
        let mut all: Vec<_> = wishes.0.values().map(holding).collect();
        all.sort_by(|a, b| {
            (&a.want.namespace, &a.want.pool).cmp(&(&b.want.namespace, &b.want.pool))
        });
        let in_use = in_use(machines);
        let part = fair_share::part(self.budget, in_use, &all, &pool);
        let fits = room(self.budget, in_use, memory_mib, addresses);
        let lacks = part.more.saturating_sub(fits.machines);
        if lacks > told {
            // Other namespaces have what is this one's share.
            part.beyond.iter().for_each(|other| machines.wake_pool(other));
        }
        if let Some(wish) = wishes.0.get_mut(&pool) {
            wish.told = lacks;
        }
        let limit = "the namespace's share of the node";
        let room = if part.more < fits.machines {
            Room { machines: part.more, limit: limit.to_owned() }
        } else {
            fits
        };
        Part { room, yield_to: part.yield_to }
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
