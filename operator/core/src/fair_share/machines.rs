//! The node's machines, divided between namespaces, and between the pools of a namespace.
//!
//! Machines are given one by one, each time to the namespace with the smallest share that wants
//! another one for which there is room. A share is the larger one of its part of the machines and
//! its part of the memory (dominant resource fairness).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use crate::pool::Budget;

/// The wish of a pool: machines of one size, those that it has included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want<P> {
    pub pool: P,
    pub namespace: String,
    pub machines: u32,
    pub memory_mib: u32,
}

/// The number of machines of each pool, in the order of `wants`. The order of `wants` decides
/// between equals.
pub fn divide<P>(budget: Budget, wants: &[Want<P>]) -> Vec<u32> {
    let mut given = vec![0_u32; wants.len()];
    let mut pools: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (n, want) in wants.iter().enumerate() {
        pools.entry(&want.namespace).or_default().push(n);
    }
    let (mut machines, mut memory) = (budget.machines, budget.memory_mib);
    // By the share, so the namespace with the smallest one comes first.
    let mut namespaces: BinaryHeap<_> =
        pools.keys().map(|namespace| Reverse((0_u128, *namespace, 0_u32, 0_u64))).collect();
    while machines > 0
        && let Some(Reverse((_, namespace, has, has_memory))) = namespaces.pop()
    {
        let fits = |n: &&usize| {
            let unmet = wants.get(**n).zip(given.get(**n));
            unmet.is_some_and(|(want, given)| {
                *given < want.machines && u64::from(want.memory_mib) <= memory
            })
        };
        // Within a namespace, the pool with the fewest machines.
        let candidates = pools.get(namespace).into_iter().flatten().filter(fits);
        let Some(n) = candidates.min_by_key(|n| given.get(**n)).copied() else { continue };
        let Some((want, given)) = wants.get(n).zip(given.get_mut(n)) else { continue };
        *given += 1;
        machines -= 1;
        memory -= u64::from(want.memory_mib);
        let (has, has_memory) = (has + 1, has_memory + u64::from(want.memory_mib));
        namespaces.push(Reverse((share(budget, has, has_memory), namespace, has, has_memory)));
    }
    given
}

/// The larger one of both parts, as a fraction over `machines * memory_mib` of the budget.
fn share(budget: Budget, machines: u32, memory_mib: u64) -> u128 {
    let by_count = u128::from(machines) * u128::from(budget.memory_mib);
    let by_memory = u128::from(memory_mib) * u128::from(budget.machines);
    by_count.max(by_memory)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn want(namespace: &str, machines: u32, memory_mib: u32) -> Want<()> {
        Want { pool: (), namespace: namespace.to_owned(), machines, memory_mib }
    }

    #[test]
    fn a_greedy_namespace_gets_the_rest_and_no_more() {
        let budget = Budget { machines: 10, memory_mib: 10_000 };
        let wants = [want("a", 1000, 100), want("b", 2, 100), want("c", 4, 100)];
        assert_eq!(divide(budget, &wants), [4, 2, 4]);
        assert_eq!(divide(budget, &wants[..1]), [10], "nothing is wasted");
        // A namespace with many pools gets no more than one with one pool.
        let many = [want("a", 9, 100), want("a", 9, 100), want("a", 9, 100), want("b", 9, 100)];
        assert_eq!(divide(budget, &many), [2, 2, 1, 5]);
        let large = [want("a", 9, 5000), want("b", 9, 100)];
        assert_eq!(divide(budget, &large), [1, 9], "large machines count by their memory");
    }

    proptest! {
        #[test]
        fn a_division_is_max_min_fair_wastes_nothing_and_keeps_the_budget(
            machines in 0_u32..40, memory_mib in 0_u64..40_000,
            raw in proptest::collection::vec((0_u8..4, 0_u32..20, 1_u32..4000), 0..8),
        ) {
            let budget = Budget { machines, memory_mib };
            let wants: Vec<_> =
                raw.iter().map(|(name, n, size)| want(&name.to_string(), *n, *size)).collect();
            let given = divide(budget, &wants);
            let pairs = || wants.iter().zip(&given);
            let memory = |all: &[(&Want<()>, &u32)]| -> u64 {
                all.iter().map(|(want, n)| u64::from(want.memory_mib) * u64::from(**n)).sum()
            };
            let all: Vec<_> = pairs().collect();
            let (used, used_memory) = (given.iter().sum::<u32>(), memory(&all));
            prop_assert!(used <= machines && used_memory <= memory_mib);
            prop_assert!(pairs().all(|(want, n)| *n <= want.machines));
            let of = |name: &str| -> Vec<(&Want<()>, &u32)> {
                pairs().filter(|(want, _)| want.namespace == name).collect()
            };
            let share_of = |name: &str| {
                let all = of(name);
                share(budget, all.iter().map(|(_, n)| **n).sum(), memory(&all))
            };
            for (want, n) in pairs().filter(|(want, n)| **n < want.machines) {
                let fits = used < machines
                    && u64::from(want.memory_mib) <= memory_mib - used_memory;
                prop_assert!(!fits, "a machine of {want:?} fits and was not given: {n}");
                // Without its last machine, no namespace has more than one that wants more and
                // could have had this machine instead.
                for other in wants.iter().filter(|other| other.namespace != want.namespace) {
                    let theirs: Vec<_> =
                        of(&other.namespace).into_iter().filter(|(_, n)| **n > 0).collect();
                    let sizes = || theirs.iter().map(|(want, _)| want.memory_mib);
                    let (Some(least), Some(most)) = (sizes().min(), sizes().max()) else {
                        continue;
                    };
                    let limit = share_of(&want.namespace)
                        + share(budget, 1, 0)
                        + share(budget, 0, u64::from(most));
                    prop_assert!(
                        want.memory_mib > least || share_of(&other.namespace) <= limit,
                        "{want:?} {other:?}"
                    );
                }
            }
        }
    }
}
