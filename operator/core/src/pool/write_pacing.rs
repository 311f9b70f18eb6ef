//! The pace of a pool's status: at most one write a second, and memory alone is written seldom.

use std::time::Duration;

use agentvm_crds::PoolNode;

/// The least time between two writes of one node.
const PACE: Duration = Duration::from_secs(1);

/// The time that a write has to wait; `None` when it may be written now. `since` is the time since
/// this node's last write.
pub fn wait_before_write(since: Option<Duration>) -> Option<Duration> {
    PACE.checked_sub(since?)
}

/// The least time between two writes whose only news is memory.
const MEMORY_PACE: Duration = Duration::from_mins(1);

/// Keeps the memory figure of the last entry where nothing else has changed. Memory always moves a
/// little, and a status that followed it would be written without end. `since` is the time since
/// this node's last write.
pub fn settle_memory(
    old: Option<&PoolNode>,
    mut new: PoolNode,
    since: Option<Duration>,
) -> PoolNode {
    let Some(old) = old else { return new };
    if new.unshared_memory_bytes.is_none() && new.total > 0 {
        // No machine is idle just now, which says nothing about memory.
        new.unshared_memory_bytes = old.unshared_memory_bytes;
    }
    let as_before = PoolNode { unshared_memory_bytes: old.unshared_memory_bytes, ..new.clone() };
    let early = since.is_some_and(|since| since < MEMORY_PACE);
    let news = moved(old.unshared_memory_bytes, new.unshared_memory_bytes) && !early;
    if as_before == *old && !news { as_before } else { new }
}

/// Whether the figure moved by more than a tenth.
fn moved(old: Option<i64>, new: Option<i64>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => old.abs_diff(new) > old.unsigned_abs() / 10,
        (old, new) => old != new,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        names::GoldenKey,
        pool::{
            NodeFacts, Plan, PoolFacts, SlotSeen,
            fixture::{facts, pool},
            node_entry,
        },
    };

    proptest! {
        #[test]
        fn a_node_writes_a_pool_once_a_second_at_the_most(millis in 0_u64..5000) {
            let since = Duration::from_millis(millis);
            match wait_before_write(Some(since)) {
                Some(wait) => prop_assert_eq!(since + wait, PACE),
                None => prop_assert!(since > PACE),
            }
            prop_assert_eq!(wait_before_write(None), None);
        }
    }

    fn entry(unshared: Vec<u64>) -> PoolNode {
        let seen = PoolFacts {
            slots: [(0, SlotSeen::Claimed)].into(),
            queued: 0,
            room: 10.into(),
            golden: Ok(GoldenKey::from_recorded("k")),
            hold_until: None,
        };
        let facts = NodeFacts { accelerator: "KVM", unshared, ..facts() };
        node_entry(&pool(1, 4), &seen, &Plan::default(), facts)
    }

    #[test]
    fn memory_alone_is_written_seldom_and_never_for_little() {
        let mib = |n: u64| n << 20;
        let before = entry(vec![mib(10), mib(40), mib(30)]);
        assert_eq!(before.unshared_memory_bytes, Some(30 << 20));
        let settled = |unshared: Vec<u64>, seconds| {
            let new = entry(unshared);
            settle_memory(Some(&before), new, Some(Duration::from_secs(seconds)))
                .unshared_memory_bytes
        };
        assert_eq!(settled(vec![mib(33)], 600), Some(30 << 20), "a tenth is little");
        assert_eq!(settled(vec![mib(34)], 59), Some(30 << 20), "too early");
        assert_eq!(settled(vec![mib(33) + 1], 60), Some(34 << 20));
        assert_eq!(settled(vec![], 600), Some(30 << 20), "nobody is idle");
        let other = PoolNode { warm: 3, ..entry(vec![mib(31)]) };
        let along = settle_memory(Some(&before), other, Some(Duration::ZERO));
        assert_eq!(along.unshared_memory_bytes, Some(31 << 20), "it goes along with other news");
    }
}
