//! The nodes of a cluster, as one of them saw their Leases.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agentvm_types::NodeId;

use super::{LeaseTimes, Seen};

/// The Leases of all nodes, and when each was seen to change.
#[derive(Clone, Debug)]
pub struct Peers {
    /// The first complete look.
    since: Option<Duration>,
    times: LeaseTimes,
    leases: BTreeMap<String, Sighting>,
}

#[derive(Clone, Debug)]
struct Sighting {
    lease: Seen,
    changed: Duration,
    /// It is in the last list.
    there: bool,
}

/// The verdict about every node that has, or had, a Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    alive_ids: BTreeSet<NodeId>,
    alive_names: BTreeSet<String>,
    over_ids: BTreeSet<NodeId>,
    over_names: BTreeSet<String>,
    /// A node that has no Lease would have got one by now.
    settled: bool,
}

impl Peers {
    /// `times` are the caller's own; they count for nodes without a Lease.
    pub fn new(times: LeaseTimes) -> Self {
        Self { since: None, times, leases: BTreeMap::new() }
    }

    /// Takes in a complete list that was read live.
    pub fn see(&mut self, list: Vec<Seen>, now: Duration) {
        self.since.get_or_insert(now);
        let names: BTreeSet<String> = list.iter().map(|lease| lease.name.clone()).collect();
        for (name, sighting) in &mut self.leases {
            if !names.contains(name) && sighting.there {
                // An operator that lives makes it again, so its going is news, too.
                (sighting.there, sighting.changed) = (false, now);
            }
        }
        for lease in list {
            let name = lease.name.clone();
            let before = self
                .leases
                .get(&name)
                .filter(|before| before.there && before.lease.version == lease.version);
            let changed = before.map_or(now, |before| before.changed);
            self.leases.insert(name, Sighting { lease, changed, there: true });
        }
        // A node that has been gone for long is like a node that was never there.
        self.leases.retain(|_, s| s.there || now.saturating_sub(s.changed) < forgotten(s));
    }

    /// The Leases that were not renewed in time. The operator that notes this in the
    /// Lease first makes it so.
    pub fn to_end(&self, now: Duration) -> Vec<&Seen> {
        let late = |s: &&Sighting| {
            s.there && !s.lease.over && now.saturating_sub(s.changed) >= s.lease.times.over_after()
        };
        self.leases.values().filter(late).map(|s| &s.lease).collect()
    }

    /// The Leases that nobody needs any more.
    pub fn to_forget(&self, now: Duration) -> Vec<&Seen> {
        let old = |s: &&Sighting| {
            s.there && s.lease.over && now.saturating_sub(s.changed) >= forgotten(s)
        };
        self.leases.values().filter(old).map(|s| &s.lease).collect()
    }

    pub fn nodes(&self, now: Duration) -> Nodes {
        let settled =
            self.since.is_some_and(|since| now.saturating_sub(since) >= self.times.over_after());
        let mut nodes = Nodes { settled, ..Nodes::default() };
        for (name, s) in &self.leases {
            let gone = !s.there && now.saturating_sub(s.changed) >= s.lease.times.over_after();
            let over = s.lease.over || gone;
            let (ids, names) = if over {
                (&mut nodes.over_ids, &mut nodes.over_names)
            } else {
                (&mut nodes.alive_ids, &mut nodes.alive_names)
            };
            ids.extend(s.lease.holder.clone());
            names.insert(name.clone());
        }
        nodes
    }
}

fn forgotten(sighting: &Sighting) -> Duration {
    sighting.lease.times.forgotten_after()
}

impl Nodes {
    /// Whether the node with this id is gone for certain: its attempts may end or run elsewhere.
    pub fn is_over(&self, id: &str) -> bool {
        !self.alive_ids.contains(id) && (self.over_ids.contains(id) || self.settled)
    }

    /// Like [`Self::is_over`], for a claim of a version that wrote no id.
    pub fn is_over_by_name(&self, name: &str) -> bool {
        !self.alive_names.contains(name) && (self.over_names.contains(name) || self.settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn lease(name: &str, holder: &str, version: &str) -> Seen {
        Seen {
            name: name.into(),
            holder: Some(NodeId::new(holder)),
            boot: String::new(),
            version: version.into(),
            times: LeaseTimes::SHARED,
            over: false,
        }
    }

    fn peers() -> Peers {
        Peers::new(LeaseTimes::SHARED)
    }

    #[test]
    fn a_node_that_renews_is_alive_and_one_that_does_not_is_first_noted_and_then_over() {
        let mut peers = peers();
        for second in [0, 40, 80] {
            let list = vec![lease("a", "A", &second.to_string()), lease("b", "B", "1")];
            peers.see(list, at(second));
        }
        let late: Vec<_> = peers.to_end(at(80)).into_iter().map(|l| l.name.clone()).collect();
        assert_eq!(late, ["b"]);
        let nodes = peers.nodes(at(80));
        assert!(!nodes.is_over("A") && !nodes.is_over("B"), "nobody has noted it yet");
        let noted = Seen { over: true, ..lease("b", "B", "2") };
        peers.see(vec![lease("a", "A", "90"), noted.clone()], at(90));
        let nodes = peers.nodes(at(90));
        assert!(nodes.is_over("B") && nodes.is_over_by_name("b") && !nodes.is_over("A"));
        assert_eq!(peers.to_end(at(90)), [] as [&Seen; 0]);
        assert_eq!(peers.to_forget(at(90)), [] as [&Seen; 0]);
        assert_eq!(peers.to_forget(at(90 + 1200)), [&noted]);
    }

    #[test]
    fn a_node_without_a_lease_is_over_only_when_it_could_have_got_one() {
        let mut peers = peers();
        peers.see(vec![], at(5));
        assert!(!peers.nodes(at(79)).is_over("X"));
        assert!(peers.nodes(at(80)).is_over("X") && peers.nodes(at(80)).is_over_by_name("x"));
        let nobody = Peers::new(LeaseTimes::SHARED).nodes(at(1_000));
        assert!(!nobody.is_over("X"), "nobody has looked");
    }

    #[test]
    fn a_lease_that_somebody_deleted_is_waited_for_like_a_renewal() {
        let mut peers = peers();
        peers.see(vec![lease("a", "A", "1")], at(0));
        peers.see(vec![], at(100));
        assert!(!peers.nodes(at(174)).is_over("A"), "it may make it again");
        assert!(peers.nodes(at(175)).is_over("A"));
        peers.see(vec![lease("a", "A", "2")], at(180));
        assert!(!peers.nodes(at(180)).is_over("A"));
    }

    #[test]
    fn an_id_that_has_a_lease_under_a_new_name_is_alive() {
        let mut peers = peers();
        peers.see(vec![lease("old", "A", "1"), lease("new", "A", "1")], at(0));
        let noted = Seen { over: true, ..lease("old", "A", "1") };
        peers.see(vec![noted, lease("new", "A", "2")], at(100));
        let nodes = peers.nodes(at(100));
        assert!(!nodes.is_over("A") && nodes.is_over_by_name("old"));
    }
}
