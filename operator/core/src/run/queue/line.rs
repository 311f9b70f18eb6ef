//! The line of one pool, kept by events. An event costs O(c log n), where c is the number of
//! different priorities that runs of its key wait with. The first k runs cost O(k log n). All
//! positions together cost O(n log n), and are computed again only after as many questions as runs
//! wait: a position that is only told to people may be a little old.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
    sync::Arc,
};

use agentvm_types::RunUid;

use super::order::{Age, Place, QueueEntry, ROUND_SECONDS};

/// The runs of a line this short get positions that are never old.
const SHORT: usize = 64;

/// The runs of one key with one priority.
type Group = BTreeSet<Age>;

/// The runs with one priority.
#[derive(Debug, Default)]
struct Class {
    groups: HashMap<Arc<str>, Group>,
    /// The oldest run of each group, by the round of the group.
    heads: BTreeMap<(u64, Age), Arc<str>>,
}

/// The runs that wait for one pool.
#[derive(Debug, Default)]
pub struct Line {
    entries: HashMap<RunUid, QueueEntry>,
    classes: BTreeMap<Reverse<i32>, Class>,
    /// The priorities that runs of a key wait with.
    priorities: HashMap<Arc<str>, BTreeSet<i32>>,
    /// Machine-seconds of each key, from the pool's status.
    usage: HashMap<Arc<str>, u64>,
    /// Runs of each key that have a machine.
    running: HashMap<Arc<str>, u64>,
    order: Order,
}

/// All places at one moment.
#[derive(Debug, Default)]
struct Order {
    groups: HashMap<(i32, Arc<str>), Vec<Age>>,
    places: Vec<Place>,
    stale: bool,
    asked: usize,
}

impl Line {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn contains(&self, run: &RunUid) -> bool {
        self.entries.contains_key(run)
    }

    /// A run joins the line. A run that stands there already moves to the place of the new entry.
    pub fn join(&mut self, entry: QueueEntry) {
        if self.entries.get(&entry.uid) == Some(&entry) {
            return;
        }
        self.leave(&entry.uid);
        let (key, age) = (entry.key.clone(), Age::of(&entry));
        self.priorities.entry(key.clone()).or_default().insert(entry.priority);
        let round = self.round(&key);
        self.class(entry.priority).change(&key, round, round, |group| group.insert(age));
        self.entries.insert(entry.uid.clone(), entry);
        self.order.stale = true;
    }

    /// A run leaves the line: it has a machine, is over, or is gone.
    pub fn leave(&mut self, run: &RunUid) {
        let Some(entry) = self.entries.remove(run) else { return };
        let round = self.round(&entry.key);
        let class = self.class(entry.priority);
        class.change(&entry.key, round, round, |group| group.remove(&Age::of(&entry)));
        let group_is_gone = !class.groups.contains_key(&entry.key);
        if class.groups.is_empty() {
            self.classes.remove(&Reverse(entry.priority));
        }
        if group_is_gone && let Some(priorities) = self.priorities.get_mut(&entry.key) {
            priorities.remove(&entry.priority);
            if priorities.is_empty() {
                self.priorities.remove(&entry.key);
            }
        }
        self.order.stale = true;
    }

    /// A run of this key got a machine.
    pub fn start(&mut self, key: &Arc<str>) {
        let before = self.round(key);
        *self.running.entry(key.clone()).or_default() += 1;
        self.moved(key, before);
    }

    /// A run of this key has no machine any more.
    pub fn stop(&mut self, key: &Arc<str>) {
        let before = self.round(key);
        if let Some(running) = self.running.get_mut(key) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                self.running.remove(key);
            }
        }
        self.moved(key, before);
    }

    /// The usage in the pool's status. Keys that it does not have used nothing. `true`: the order
    /// may be another one.
    pub fn set_usage<'a>(&mut self, usage: impl IntoIterator<Item = (&'a str, u64)>) -> bool {
        let new: HashMap<Arc<str>, u64> =
            usage.into_iter().map(|(key, seconds)| (key.into(), seconds)).collect();
        let old = std::mem::take(&mut self.usage);
        let rounds = |usage: &HashMap<Arc<str>, u64>, key: &Arc<str>| {
            usage.get(key).map_or(0, |seconds| seconds / ROUND_SECONDS)
        };
        let mut keys: Vec<Arc<str>> = old.keys().chain(new.keys()).cloned().collect();
        keys.retain(|key| rounds(&old, key) != rounds(&new, key));
        keys.sort_unstable();
        keys.dedup();
        let before: Vec<u64> = keys
            .iter()
            .map(|key| rounds(&old, key) + self.running.get(key).copied().unwrap_or(0))
            .collect();
        self.usage = new;
        for (key, before) in keys.iter().zip(before) {
            self.moved(key, before);
        }
        !keys.is_empty()
    }

    /// The first runs in line, in order, without those that `skip` names.
    pub fn first(&self, count: usize, skip: impl Fn(&RunUid) -> bool) -> Vec<Place> {
        self.in_order().filter(|place| !skip(&place.age.uid)).take(count).collect()
    }

    /// The number of runs before this one, if it is less than `limit`. The run may stand in line or
    /// not. Runs that `skip` names do not count.
    pub fn ahead_within(
        &self,
        this: &QueueEntry,
        limit: usize,
        skip: impl Fn(&RunUid) -> bool,
    ) -> Option<u32> {
        if limit == 0 {
            return None;
        }
        let age = Age::of(this);
        let group =
            self.classes.get(&Reverse(this.priority)).and_then(|class| class.groups.get(&this.key));
        let (mut older, mut counted) = (0_u64, 0);
        for other in group.into_iter().flat_map(|group| group.range(..&age)) {
            // One that is skipped has its machine, and the rounds after it stay as they are.
            older += 1;
            counted += usize::from(!skip(&other.uid));
            if counted == limit {
                return None;
            }
        }
        let round = self.round(&this.key).saturating_add(older);
        let place = Place { priority: this.priority, round, age };
        let before = self
            .in_order()
            .take_while(|other| *other < place)
            .filter(|other| !skip(&other.age.uid))
            .take(limit)
            .count();
        u32::try_from(before).ok().filter(|_| before < limit)
    }

    /// About the number of runs before this one: see the top of the file.
    pub fn position(&mut self, this: &QueueEntry) -> u32 {
        self.order.asked += 1;
        let due = self.len() <= SHORT || self.order.asked > self.len();
        if self.order.stale && due {
            self.order = self.all_places();
        }
        let age = Age::of(this);
        let group = self.order.groups.get(&(this.priority, this.key.clone()));
        let older = group.map_or(0, |group| group.partition_point(|other| *other < age));
        let round = self.round(&this.key).saturating_add(older as u64);
        let place = Place { priority: this.priority, round, age };
        let before = self.order.places.partition_point(|other| *other < place);
        u32::try_from(before).unwrap_or(u32::MAX)
    }

    fn all_places(&self) -> Order {
        let mut order = Order::default();
        for (Reverse(priority), class) in &self.classes {
            for (key, group) in &class.groups {
                let rounds = self.round(key)..;
                order.places.extend(group.iter().zip(rounds).map(|(age, round)| Place {
                    priority: *priority,
                    round,
                    age: age.clone(),
                }));
                let ages = group.iter().cloned().collect();
                order.groups.insert((*priority, key.clone()), ages);
            }
        }
        order.places.sort_unstable();
        order
    }

    /// The round of the first waiting run of a key.
    fn round(&self, key: &Arc<str>) -> u64 {
        let seconds = self.usage.get(key).copied().unwrap_or(0);
        let running = self.running.get(key).copied().unwrap_or(0);
        (seconds / ROUND_SECONDS).saturating_add(running)
    }

    fn class(&mut self, priority: i32) -> &mut Class {
        self.classes.entry(Reverse(priority)).or_default()
    }

    /// The round of a key is not what it was.
    fn moved(&mut self, key: &Arc<str>, before: u64) {
        let after = self.round(key);
        if after == before {
            return;
        }
        for priority in self.priorities.get(key).into_iter().flatten() {
            if let Some(class) = self.classes.get_mut(&Reverse(*priority)) {
                class.change(key, before, after, |_| true);
                self.order.stale = true;
            }
        }
    }

    /// All places in order. Each next one costs O(log n).
    fn in_order(&self) -> impl Iterator<Item = Place> + '_ {
        self.classes.iter().flat_map(|(Reverse(priority), class)| {
            let priority = *priority;
            class.in_order().map(move |(round, age)| Place { priority, round, age: age.clone() })
        })
    }
}

impl Class {
    /// Changes a group, and puts its head where it belongs.
    fn change(
        &mut self,
        key: &Arc<str>,
        before: u64,
        after: u64,
        change: impl FnOnce(&mut Group) -> bool,
    ) {
        let group = self.groups.entry(key.clone()).or_default();
        if let Some(head) = group.first() {
            self.heads.remove(&(before, head.clone()));
        }
        change(group);
        match group.first() {
            Some(head) => {
                self.heads.insert((after, head.clone()), key.clone());
            }
            None => {
                self.groups.remove(key);
            }
        }
    }

    /// Merges the groups: a group is opened when its head is reached.
    fn in_order(&self) -> impl Iterator<Item = (u64, &Age)> + '_ {
        let mut heads = self.heads.iter().peekable();
        let mut open: BinaryHeap<Reverse<(u64, &Age, usize)>> = BinaryHeap::new();
        let mut rests = Vec::new();
        std::iter::from_fn(move || {
            let head_first = match (heads.peek(), open.peek()) {
                (Some(((round, age), _)), Some(Reverse(next))) => (*round, age) < (next.0, next.1),
                (head, _) => head.is_some(),
            };
            let (round, age, rest) = if head_first {
                let ((round, age), key) = heads.next()?;
                let mut rest = self.groups.get(key)?.iter();
                rest.next();
                rests.push(rest);
                (*round, age, rests.len() - 1)
            } else {
                let Reverse(next) = open.pop()?;
                next
            };
            if let Some(next) = rests.get_mut(rest).and_then(Iterator::next) {
                open.push(Reverse((round.saturating_add(1), next, rest)));
            }
            Some((round, age))
        })
    }
}
