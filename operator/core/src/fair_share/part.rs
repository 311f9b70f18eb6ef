//! The part of one pool in the node's division, and the machines that its namespace gives back.

use super::{Want, divide};
use crate::pool::{Budget, InUse};

/// A pool's wish, and the machines that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding<P> {
    pub want: Want<P>,
    pub has: u32,
}

/// The part of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<P> {
    /// The machines that its namespace may have besides those that it has.
    pub more: u32,
    /// The number of machines that the pool may have. It is set where its namespace has more than
    /// its share, and others lack machines.
    pub yield_to: Option<u32>,
    /// The pools of other namespaces that have more than their shares.
    pub beyond: Vec<P>,
}

/// Decides. `all` has the pools in a fixed order, this one included. The pools of a namespace take
/// machines from its share as they come.
pub fn part<P: Clone + PartialEq>(
    budget: Budget,
    in_use: InUse,
    all: &[Holding<P>],
    pool: &P,
) -> Part<P> {
    let wants: Vec<Want<P>> = all.iter().map(|it| it.want.clone()).collect();
    let shares = divide(budget, &wants);
    let pairs = || all.iter().zip(shares.iter().copied());
    let Some(this) = all.iter().find(|it| it.want.pool == *pool) else {
        return Part { more: 0, yield_to: None, beyond: vec![] };
    };
    let ours = |it: &Holding<P>| it.want.namespace == this.want.namespace;
    let (share, has) = pairs()
        .filter(|(it, _)| ours(it))
        .fold((0_u32, 0_u32), |sum, (it, share)| (sum.0 + share, sum.1.saturating_add(it.has)));
    let beyond = has.saturating_sub(share);
    let yields = beyond > 0 && others_lack(budget, in_use, pairs().filter(|(it, _)| !ours(it)));
    let others = pairs().filter(|(it, share)| !ours(it) && it.has > *share);
    Part {
        more: share.saturating_sub(has),
        yield_to: yields.then(|| this.has.saturating_sub(beyond)),
        beyond: others.map(|(it, _)| it.want.pool.clone()).collect(),
    }
}

/// Whether these have less than their shares, and there is no room to fill them.
fn others_lack<'a, P: 'a>(
    budget: Budget,
    in_use: InUse,
    mut others: impl Iterator<Item = (&'a Holding<P>, u32)>,
) -> bool {
    let mut machines = budget.machines.saturating_sub(in_use.machines);
    let mut memory = budget.memory_mib.saturating_sub(in_use.memory_mib);
    others.any(|(it, share)| {
        let lacks = share.saturating_sub(it.has);
        let size = u64::from(lacks) * u64::from(it.want.memory_mib);
        let short = lacks > machines || size > memory;
        machines = machines.saturating_sub(lacks);
        memory = memory.saturating_sub(size);
        short
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pool::room;

    const SIZE: u32 = 100;

    fn holding(pool: usize, namespace: u8, machines: u32) -> Holding<usize> {
        let want = Want { pool, namespace: namespace.to_string(), machines, memory_mib: SIZE };
        Holding { want, has: 0 }
    }

    fn in_use(all: &[Holding<usize>]) -> InUse {
        let machines = all.iter().map(|it| it.has).sum::<u32>();
        InUse { machines, memory_mib: u64::from(machines) * u64::from(SIZE) }
    }

    /// A look at one pool, when all of its machines are idle.
    fn look(budget: Budget, all: &mut [Holding<usize>], pool: usize) {
        let part = part(budget, in_use(all), all, &pool);
        let fits = room(budget, in_use(all), SIZE, None).machines;
        let it = &mut all[pool];
        it.has = it.has.min(it.want.machines);
        it.has = part.yield_to.map_or(it.has, |most| it.has.min(most));
        it.has += part.more.min(fits).min(it.want.machines - it.has);
    }

    proptest! {
        #[test]
        fn namespaces_come_to_rest_at_their_shares_whoever_came_first(
            machines in 0_u32..30,
            pools in proptest::collection::vec((0_u8..4, 0_u32..20), 1..7),
            first in any::<prop::sample::Index>(),
        ) {
            let memory_mib = u64::from(machines) * u64::from(SIZE);
            let budget = Budget { machines, memory_mib };
            let mut all: Vec<_> =
                pools.iter().enumerate().map(|(n, (ns, want))| holding(n, *ns, *want)).collect();
            // One pool is alone at first, and takes all that it can get.
            let first = first.index(all.len());
            all[first].has = all[first].want.machines.min(machines);
            for _ in 0..40 {
                for pool in 0..all.len() {
                    look(budget, &mut all, pool);
                    prop_assert!(in_use(&all).machines <= machines);
                }
            }
            let wants: Vec<_> = all.iter().map(|it| it.want.clone()).collect();
            let shares = divide(budget, &wants);
            let of = |namespace: u8| {
                let name = namespace.to_string();
                let mine = all.iter().zip(&shares).filter(|(it, _)| it.want.namespace == name);
                mine.fold((0, 0), |sum, (it, share)| (sum.0 + it.has, sum.1 + share))
            };
            for namespace in 0..4 {
                let (has, share) = of(namespace);
                prop_assert_eq!(has, share, "namespace {} in {:?}", namespace, &all);
            }
        }
    }

    #[test]
    fn a_namespace_gives_back_only_what_others_lack() {
        let budget = Budget { machines: 10, memory_mib: 1000 };
        let mut all = [holding(0, 0, 10), holding(1, 1, 3)];
        all[0].has = 10;
        let greedy = part(budget, in_use(&all), &all, &0);
        assert_eq!((greedy.more, greedy.yield_to), (0, Some(7)));
        let late = part(budget, in_use(&all), &all, &1);
        assert_eq!((late.more, late.yield_to, late.beyond), (3, None, vec![0]));
        all[0].has = 7;
        assert_eq!(part(budget, in_use(&all), &all, &0).yield_to, None, "there is room now");
    }
}
