//! The lines of all pools, kept by events about runs and pools. An event costs O(log n).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use agentvm_types::RunUid;

use super::{Line, QueueEntry};

/// A pool, by the names that a run has for it: it need not exist.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolName {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl PoolName {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// The relation of a run to the line of its pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It waits for a machine.
    InLine(QueueEntry),
    /// It waits for something else, and holds nobody up.
    Aside,
    /// It has a machine, and uses the share of its key.
    Running { key: Arc<str> },
    /// It is over, or another controller manages it.
    Over,
}

#[derive(Debug)]
struct Known {
    pool: PoolName,
    name: Arc<str>,
    standing: Standing,
}

/// The runs of one pool.
#[derive(Debug, Default)]
struct PoolRuns {
    line: Line,
    /// All runs that are not over, by UID, with their names.
    open: BTreeMap<RunUid, Arc<str>>,
    /// The usage is known, so the pool exists or existed.
    usage_set: bool,
}

impl PoolRuns {
    fn enter(&mut self, uid: &RunUid, known: &Known) {
        match &known.standing {
            Standing::Over => return,
            Standing::InLine(entry) => self.line.join(entry.clone()),
            Standing::Running { key } => self.line.start(key),
            Standing::Aside => {}
        }
        self.open.insert(uid.clone(), known.name.clone());
    }

    fn exit(&mut self, uid: &RunUid, known: &Known) {
        match &known.standing {
            Standing::Over | Standing::Aside => {}
            Standing::InLine(_) => self.line.leave(uid),
            Standing::Running { key } => self.line.stop(key),
        }
        self.open.remove(uid);
    }
}

/// The runs of all pools.
#[derive(Debug, Default)]
pub struct RunQueues {
    runs: HashMap<RunUid, Known>,
    pools: HashMap<PoolName, PoolRuns>,
}

impl RunQueues {
    /// A run is like this now. `true`: runs behind it may be nearer to a machine, or the pool may
    /// have to grow.
    pub fn note(&mut self, uid: &RunUid, name: &str, pool: PoolName, standing: Standing) -> bool {
        let before = self.runs.get(uid);
        if before.is_some_and(|known| known.pool == pool && known.standing == standing) {
            return false;
        }
        self.forget(uid);
        let known = Known { pool: pool.clone(), name: name.into(), standing };
        if known.standing != Standing::Over {
            self.pools.entry(pool).or_default().enter(uid, &known);
        }
        self.runs.insert(uid.clone(), known);
        true
    }

    /// A run is gone.
    pub fn forget(&mut self, uid: &RunUid) {
        let Some(known) = self.runs.remove(uid) else { return };
        if let Some(runs) = self.pools.get_mut(&known.pool) {
            runs.exit(uid, &known);
            if runs.open.is_empty() && !runs.usage_set {
                self.pools.remove(&known.pool);
            }
        }
    }

    /// The runs that are not there any more.
    pub fn absent(&self, exists: impl Fn(&RunUid) -> bool) -> Vec<RunUid> {
        self.runs.keys().filter(|uid| !exists(uid)).cloned().collect()
    }

    /// The usage that a pool's status has. `true`: it is another one than before.
    pub fn set_usage<'a>(
        &mut self,
        pool: PoolName,
        usage: impl IntoIterator<Item = (&'a str, u64)>,
    ) -> bool {
        let runs = self.pools.entry(pool).or_default();
        runs.usage_set = true;
        runs.line.set_usage(usage)
    }

    /// A pool is gone, and its usage with it.
    pub fn forget_usage(&mut self, pool: &PoolName) {
        let Some(runs) = self.pools.get_mut(pool) else { return };
        runs.usage_set = false;
        runs.line.set_usage([]);
        if runs.open.is_empty() {
            self.pools.remove(pool);
        }
    }

    /// The pool and the name of a run.
    pub fn find(&self, uid: &RunUid) -> Option<(&PoolName, &Arc<str>)> {
        self.runs.get(uid).map(|known| (&known.pool, &known.name))
    }

    /// The line of a pool.
    pub fn line(&self, pool: &PoolName) -> Option<&Line> {
        self.pools.get(pool).map(|runs| &runs.line)
    }

    /// The line of a pool, for questions that it remembers.
    pub fn line_mut(&mut self, pool: &PoolName) -> Option<&mut Line> {
        self.pools.get_mut(pool).map(|runs| &mut runs.line)
    }

    /// The names of the runs of a pool that are not over.
    pub fn open(&self, pool: &PoolName) -> impl Iterator<Item = &Arc<str>> {
        self.pools.get(pool).into_iter().flat_map(|runs| runs.open.values())
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn entry(uid: &str) -> QueueEntry {
        QueueEntry {
            uid: RunUid::new(uid),
            priority: 0,
            key: "".into(),
            created: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_run_stands_in_one_line_at_the_most_and_what_is_gone_is_forgotten() {
        let mut queues = RunQueues::default();
        let (a, b) = (PoolName::new("ns", "a"), PoolName::new("ns", "b"));
        let uid = RunUid::new("1");
        let len = |queues: &RunQueues, pool| queues.line(pool).map_or(0, Line::len);
        assert!(queues.note(&uid, "run", a.clone(), Standing::InLine(entry("1"))));
        assert!(!queues.note(&uid, "run", a.clone(), Standing::InLine(entry("1"))), "no news");
        assert_eq!((len(&queues, &a), queues.open(&a).count()), (1, 1));
        assert!(queues.note(&uid, "run", b.clone(), Standing::InLine(entry("1"))));
        assert_eq!((len(&queues, &a), len(&queues, &b)), (0, 1));
        queues.note(&uid, "run", b.clone(), Standing::Aside);
        assert_eq!((len(&queues, &b), queues.open(&b).count()), (0, 1), "it waits aside");
        queues.note(&uid, "run", b.clone(), Standing::Over);
        assert_eq!(queues.open(&b).count(), 0);
        assert!(queues.find(&uid).is_some(), "its name is known while the object is there");
        assert_eq!(queues.absent(|_| false), std::slice::from_ref(&uid));
        queues.forget(&uid);
        assert!(queues.find(&uid).is_none() && queues.pools.is_empty());
    }

    #[test]
    fn a_run_with_a_machine_uses_the_share_of_its_key_until_it_is_over() {
        let mut queues = RunQueues::default();
        let pool = PoolName::new("ns", "p");
        let waits =
            |uid: &str, key: &str| Standing::InLine(QueueEntry { key: key.into(), ..entry(uid) });
        let first = |queues: &RunQueues| {
            let first = queues.line(&pool).unwrap().first(1, |_| false);
            first[0].age.uid.to_string()
        };
        queues.note(&RunUid::new("1"), "1", pool.clone(), waits("1", "a"));
        queues.note(&RunUid::new("2"), "2", pool.clone(), waits("2", "a"));
        queues.note(&RunUid::new("3"), "3", pool.clone(), waits("3", "b"));
        assert_eq!(first(&queues), "1");
        queues.note(&RunUid::new("1"), "1", pool.clone(), Standing::Running { key: "a".into() });
        assert_eq!(first(&queues), "3", "a has a machine, b has none");
        queues.note(&RunUid::new("1"), "1", pool.clone(), Standing::Over);
        assert_eq!(first(&queues), "2", "both used nothing");
        queues.set_usage(pool.clone(), [("a", 10)]);
        assert_eq!(first(&queues), "3");
        queues.forget_usage(&pool);
        assert_eq!(first(&queues), "2");
    }
}
