//! Decides which capture is next. Several are under way at a time, because a setup mostly waits
//! (for its packages, or until its time is over).
//!
//! No namespace has all places: a setup that hangs holds up no other namespace. Two captures for
//! one object never run at a time, because they share the policy of its setup.

use std::collections::BTreeMap;

use agentvm_types::OwnerUid;

/// The captures at a time on one node. Each takes a machine's memory, and a core while it boots.
pub const AT_A_TIME: usize = 3;
/// Of these, for objects of one namespace.
const OF_ONE_NAMESPACE: usize = 2;

/// The object that a capture is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    pub namespace: String,
    pub owner_uid: OwnerUid,
}

/// The number of a request; an earlier one is smaller.
pub type Ticket = u64;

/// The captures under way, and those that wait.
#[derive(Debug, Default)]
pub struct Turns {
    next: Ticket,
    running: BTreeMap<Ticket, Asker>,
    waiting: BTreeMap<Ticket, Asker>,
}

impl Turns {
    /// Asks for a turn.
    pub fn ask(&mut self, asker: Asker) -> Ticket {
        self.next += 1;
        self.waiting.insert(self.next, asker);
        self.next
    }

    /// Begins, if it is this one's turn.
    pub fn begin(&mut self, ticket: Ticket) -> bool {
        if self.first() != Some(ticket) {
            return false;
        }
        let Some(asker) = self.waiting.remove(&ticket) else { return false };
        self.running.insert(ticket, asker);
        true
    }

    /// Ends, or gives up waiting.
    pub fn end(&mut self, ticket: Ticket) {
        self.running.remove(&ticket);
        self.waiting.remove(&ticket);
    }

    /// The namespace with the fewest captures under way goes first, then the earliest request.
    fn first(&self) -> Option<Ticket> {
        if self.running.len() >= AT_A_TIME {
            return None;
        }
        let of = |asker: &Asker| {
            self.running.values().filter(|one| one.namespace == asker.namespace).count()
        };
        let may = |asker: &Asker| {
            of(asker) < OF_ONE_NAMESPACE
                && self.running.values().all(|one| one.owner_uid != asker.owner_uid)
        };
        let able = self.waiting.iter().filter(|(_, asker)| may(asker));
        able.min_by_key(|(ticket, asker)| (of(asker), **ticket)).map(|(ticket, _)| *ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(turns: &mut Turns, namespace: &str, owner: &str) -> Ticket {
        turns.ask(Asker { namespace: namespace.to_owned(), owner_uid: OwnerUid::new(owner) })
    }

    #[test]
    fn a_namespace_that_never_ends_leaves_a_place_for_others() {
        let mut turns = Turns::default();
        let greedy: Vec<Ticket> =
            (0..5).map(|at| ask(&mut turns, "greedy", &format!("g{at}"))).collect();
        assert!(turns.begin(greedy[0]) && turns.begin(greedy[1]), "two at a time");
        assert!(!turns.begin(greedy[2]), "and no more of one namespace");
        for at in 0..3 {
            let other = ask(&mut turns, "modest", &format!("m{at}"));
            assert!(turns.begin(other), "the hanging ones hold up no other namespace");
            assert!(!turns.begin(greedy[2]));
            turns.end(other);
        }
        turns.end(greedy[0]);
        assert!(!turns.begin(greedy[3]), "the earlier one goes first");
        assert!(turns.begin(greedy[2]));
    }

    #[test]
    fn who_has_the_fewest_goes_first_and_one_object_has_one_at_a_time() {
        let mut turns = Turns::default();
        let [first, second] = [ask(&mut turns, "a", "one"), ask(&mut turns, "a", "one")];
        let third = ask(&mut turns, "b", "three");
        assert!(turns.begin(first));
        assert!(!turns.begin(second), "the same object");
        assert!(turns.begin(third));
        let [late, later] = [ask(&mut turns, "a", "late"), ask(&mut turns, "c", "later")];
        assert!(!turns.begin(late) && turns.begin(later), "c has none under way");
        assert!(!turns.begin(late), "all places are taken");
        turns.end(second);
        turns.end(first);
        assert!(turns.begin(late));
    }
}
