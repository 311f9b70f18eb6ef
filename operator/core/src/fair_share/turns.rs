//! A number of turns at the same time, divided between namespaces. A turn that is free goes to the
//! namespace that has the fewest; of those with equally many, to the one whose last turn is the
//! longest ago. Each step costs O(log n).

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    hash::Hash,
    sync::Arc,
};

/// One namespace's part.
#[derive(Debug)]
struct Part<T> {
    held: usize,
    /// The number of the last turn that it got.
    last: u64,
    waiting: VecDeque<T>,
}

/// The turns, and the items that wait for one.
#[derive(Debug)]
pub struct Turns<T> {
    capacity: usize,
    taken: usize,
    given: u64,
    parts: HashMap<Arc<str>, Part<T>>,
    /// The namespaces that wait, the next one first.
    order: BTreeSet<(usize, u64, Arc<str>)>,
    parked: HashSet<T>,
    /// Items that waited, have a turn now, and have not come back for it.
    called: HashSet<T>,
}

impl<T: Clone + Eq + Hash> Turns<T> {
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            taken: 0,
            given: 0,
            parts: HashMap::new(),
            order: BTreeSet::new(),
            parked: HashSet::new(),
            called: HashSet::new(),
        }
    }

    /// Asks for a turn. `false`: the item waits, and [`Turns::leave`] will call it.
    pub fn enter(&mut self, namespace: &Arc<str>, item: &T) -> bool {
        if self.called.remove(item) {
            return true;
        }
        if self.parked.contains(item) {
            return false;
        }
        if self.taken < self.capacity {
            self.take(namespace, |_| None);
            return true;
        }
        self.parked.insert(item.clone());
        self.change(namespace, |part| part.waiting.push_back(item.clone()));
        false
    }

    /// A turn is over. The item that is called has the turn already: it is to ask again.
    pub fn leave(&mut self, namespace: &Arc<str>) -> Option<T> {
        self.taken = self.taken.saturating_sub(1);
        self.change(namespace, |part| part.held = part.held.saturating_sub(1));
        let (_, _, next) = self.order.first()?.clone();
        let item = self.take(&next, |part| part.waiting.pop_front())?;
        self.parked.remove(&item);
        self.called.insert(item.clone());
        Some(item)
    }

    /// An item that was called will not come: its object is gone. Returns the item that is called
    /// instead.
    pub fn cancel(&mut self, namespace: &Arc<str>, item: &T) -> Option<T> {
        if self.called.remove(item) { self.leave(namespace) } else { None }
    }

    /// Gives a turn to a namespace.
    fn take(
        &mut self,
        namespace: &Arc<str>,
        item: impl FnOnce(&mut Part<T>) -> Option<T>,
    ) -> Option<T> {
        self.taken += 1;
        self.given += 1;
        let given = self.given;
        self.change(namespace, |part| {
            part.held += 1;
            part.last = given;
            item(part)
        })
    }

    /// Changes a part, and puts it where it belongs in the order.
    fn change<R>(&mut self, namespace: &Arc<str>, change: impl FnOnce(&mut Part<T>) -> R) -> R {
        let part = self.parts.entry(namespace.clone()).or_insert_with(|| Part {
            held: 0,
            last: 0,
            waiting: VecDeque::new(),
        });
        self.order.remove(&(part.held, part.last, namespace.clone()));
        let done = change(part);
        if !part.waiting.is_empty() {
            self.order.insert((part.held, part.last, namespace.clone()));
        } else if part.held == 0 {
            self.parts.remove(namespace);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Item = (u8, usize);

    /// Turns, with the items that have one.
    struct World {
        turns: Turns<Item>,
        at_work: Vec<Item>,
        waiting: Vec<Item>,
    }

    fn name(item: &Item) -> Arc<str> {
        item.0.to_string().into()
    }

    impl World {
        fn enter(&mut self, item: Item) {
            if self.turns.enter(&name(&item), &item) {
                self.at_work.push(item);
            } else {
                self.waiting.push(item);
            }
        }

        fn leave(&mut self, which: usize) -> Option<Item> {
            let item = self.at_work.remove(which % self.at_work.len());
            let called = self.turns.leave(&name(&item));
            self.arrive(called);
            called
        }

        fn arrive(&mut self, called: Option<Item>) {
            let Some(item) = called else { return };
            self.waiting.retain(|other| *other != item);
            assert!(self.turns.enter(&name(&item), &item), "a called item has its turn");
            self.at_work.push(item);
        }

        fn held(&self) -> BTreeMap<u8, usize> {
            let mut held = BTreeMap::new();
            self.at_work.iter().for_each(|item| *held.entry(item.0).or_default() += 1);
            held
        }
    }

    proptest! {
        #[test]
        fn turns_are_max_min_fair_and_none_is_idle_while_an_item_waits(
            capacity in 1_usize..6,
            steps in proptest::collection::vec((any::<bool>(), 0_u8..4, any::<usize>()), 1..120),
        ) {
            let turns = Turns::new(capacity);
            let mut world = World { turns, at_work: vec![], waiting: vec![] };
            for (n, (enters, namespace, which)) in steps.into_iter().enumerate() {
                if enters || world.at_work.is_empty() {
                    world.enter((namespace, n));
                } else {
                    let waited: Vec<u8> = world.waiting.iter().map(|item| item.0).collect();
                    let called = world.leave(which);
                    prop_assert_eq!(called.is_some(), !waited.is_empty());
                    if let Some((namespace, _)) = called {
                        let held = world.held();
                        let has = |it: u8| held.get(&it).copied().unwrap_or(0);
                        let least = waited.iter().map(|it| has(*it)).min().unwrap_or(0);
                        prop_assert!(has(namespace) <= least + 1, "{namespace} has {held:?}");
                    }
                }
                prop_assert!(world.at_work.len() <= capacity);
                prop_assert!(world.waiting.is_empty() || world.at_work.len() == capacity);
            }
            // All end: each item had its turn, and nothing is left.
            while !world.at_work.is_empty() {
                world.leave(0);
            }
            prop_assert!(world.waiting.is_empty() && world.turns.parts.is_empty());
            prop_assert!(world.turns.parked.is_empty() && world.turns.called.is_empty());
        }
    }

    #[test]
    fn ten_thousand_items_of_one_namespace_do_not_hold_up_another() {
        let turns = Turns::new(2);
        let mut world = World { turns, at_work: vec![], waiting: vec![] };
        (0..10_000).for_each(|n| world.enter((0, n)));
        world.enter((1, 0));
        assert_eq!(world.leave(0), Some((1, 0)));
        assert_eq!(world.leave(0), Some((0, 2)), "and then the others go on, in their order");
    }

    #[test]
    fn a_called_item_that_does_not_come_gives_its_turn_to_the_next() {
        let mut turns = Turns::new(1);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        assert!(turns.enter(&a, &1));
        assert!(!turns.enter(&b, &2) && !turns.enter(&a, &3) && !turns.enter(&b, &2));
        assert_eq!(turns.leave(&a), Some(2));
        assert_eq!(turns.cancel(&b, &2), Some(3));
        assert_eq!(turns.cancel(&b, &2), None);
        assert!(turns.enter(&a, &3));
        assert_eq!(turns.leave(&a), None);
        assert!(turns.enter(&b, &4), "no turn is lost");
    }
}
