//! The node's budget: the number of a pool's machines that still fit (reason `NoCapacity`).

use agentvm_crds::{PoolNode, PoolReason};

/// Resources that the machines of all pools may take on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub machines: u32,
    pub memory_mib: u64,
}

/// Resources that machines take on the node now, over all pools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    pub machines: u32,
    pub memory_mib: u64,
}

/// The machines of one pool for which a node has room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    pub machines: u32,
    /// The resource that runs out first, for people.
    pub limit: String,
}

impl Default for Room {
    fn default() -> Self {
        0.into()
    }
}

impl From<u32> for Room {
    fn from(machines: u32) -> Self {
        Self { machines, limit: "node budget".to_owned() }
    }
}

/// The room for more machines of this size. `addresses` is the room in the subnet of a pool whose
/// machines need an address; it counts where it is smaller than the budget.
pub fn room(budget: Budget, in_use: InUse, memory_mib: u32, addresses: Option<Room>) -> Room {
    let memory = budget.memory_mib.saturating_sub(in_use.memory_mib);
    let by_memory = memory / u64::from(memory_mib).max(1);
    let by_count = budget.machines.saturating_sub(in_use.machines);
    let machines = u32::try_from(by_memory).unwrap_or(u32::MAX).min(by_count);
    addresses.filter(|addresses| addresses.machines < machines).unwrap_or(machines.into())
}

/// The message of a pool that lacks room for some of its machines.
pub(super) fn no_room(short: u32, room: &Room) -> String {
    format!("this node has no room for {short} more ({})", room.limit)
}

/// Whether an entry of a pool's status says that the node lacks room. Such a pool may fill up when
/// a machine of another pool ends.
pub fn lacks_room(entry: &PoolNode) -> bool {
    entry.reason == PoolReason::NoCapacity.as_str()
}

/// The number of machines that are made at the same time: each boots or copies on a processor.
pub fn parallel_creations(cpus: usize) -> usize {
    cpus.max(1)
}

/// The number of resets at the same time. There are two at least: a reset waits for QEMU for a part
/// of its time.
pub fn parallel_resets(cpus: usize) -> usize {
    cpus.max(2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUDGET: Budget = Budget { machines: 10, memory_mib: 8192 };

    fn machines(memory_mib: u32, machines: u32, used_mib: u64) -> u32 {
        room(BUDGET, InUse { machines, memory_mib: used_mib }, memory_mib, None).machines
    }

    #[test]
    fn the_scarcest_resource_decides_and_is_named() {
        assert_eq!(machines(1024, 0, 0), 8, "memory");
        assert_eq!(machines(512, 3, 1536), 7, "machines");
        assert_eq!(machines(1024, 1, 8000), 0, "a part of a machine is none");
        assert_eq!(machines(0, 9, 0), 1, "a size of nothing divides nothing");
        let subnet = |machines| Some(Room { machines, limit: "the subnet is full".into() });
        let few = room(BUDGET, InUse::default(), 1024, subnet(2));
        assert_eq!((few.machines, few.limit.as_str()), (2, "the subnet is full"));
        let many = room(BUDGET, InUse::default(), 1024, subnet(8));
        assert_eq!((many.machines, many.limit.as_str()), (8, "node budget"));
    }

    proptest! {
        #[test]
        fn machines_that_fit_never_break_the_budget(
            machines in 0_u32..50, memory in 0_u64..1_000_000, size in 1_u32..20_000,
            used in 0_u32..60, used_mib in 0_u64..1_200_000,
                addresses in proptest::option::of(0_u32..50),
        ) {
            let budget = Budget { machines, memory_mib: memory };
            let in_use = InUse { machines: used, memory_mib: used_mib };
            let limit = addresses.map(|machines| Room { machines, limit: String::new() });
            let more = room(budget, in_use, size, limit).machines;
            prop_assert!(more == 0 || used + more <= machines);
            prop_assert!(more == 0 || used_mib + u64::from(more) * u64::from(size) <= memory);
            prop_assert!(addresses.is_none_or(|addresses| more <= addresses));
        }
    }
}
