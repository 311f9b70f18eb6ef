//! The decision who may have the Lease of a node's name.

use std::time::Duration;

use agentvm_types::NodeId;

use super::LeaseTimes;

/// A Lease, as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The name of the node.
    pub name: String,
    /// The id in the state folder of the holder. `None`: it was given up.
    pub holder: Option<NodeId>,
    /// The boot of the holder's host.
    pub boot: String,
    /// Changes with each write, so an equal version was not renewed.
    pub version: String,
    pub times: LeaseTimes,
    /// Another node has noted that the holder is gone: its attempts may run elsewhere.
    pub over: bool,
}

/// The caller.
#[derive(Clone, Copy, Debug)]
pub struct Me<'a> {
    pub id: &'a NodeId,
    pub boot: &'a str,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquire {
    /// Take it now.
    Take,
    /// Look again until it has not changed for this long.
    Watch(Duration),
    /// Another operator holds it.
    Refused,
}

/// Decides about a Lease that exists. `first` is the version at the first look of the caller, and
/// `still` the time for which the caller has looked.
///
/// The caller has the lock of its state folder. So an operator with the same id on the same boot of
/// the host is dead, and its Lease is taken at once. With another boot the host was booted again,
/// or the folder was copied: then the other host renews within a moment. The Lease of another id is
/// free when it is over.
pub fn acquire(lease: &Seen, me: Me<'_>, first: &str, still: Duration) -> Acquire {
    let Some(holder) = &lease.holder else { return Acquire::Take };
    let same = holder == me.id;
    if same && lease.boot == me.boot {
        return Acquire::Take;
    }
    if lease.over {
        return Acquire::Take;
    }
    if lease.version != first {
        return Acquire::Refused;
    }
    let enough = if same {
        lease.times.renew_every() + lease.times.patience() * 2
    } else {
        lease.times.over_after()
    };
    if still >= enough { Acquire::Take } else { Acquire::Watch(enough) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, boot: &str) -> Seen {
        Seen {
            name: "node".into(),
            holder: Some(NodeId::new(holder)),
            boot: boot.into(),
            version: "1".into(),
            times: LeaseTimes::SHARED,
            over: false,
        }
    }

    fn asked(lease: &Seen, first: &str, still: u64) -> Acquire {
        let id = NodeId::new("me");
        acquire(lease, Me { id: &id, boot: "b" }, first, Duration::from_secs(still))
    }

    #[test]
    fn a_restarted_operator_takes_its_own_lease_at_once() {
        assert_eq!(asked(&lease("me", "b"), "1", 0), Acquire::Take);
        assert_eq!(asked(&lease("me", "b"), "0", 0), Acquire::Take);
        assert_eq!(asked(&Seen { holder: None, ..lease("", "") }, "1", 0), Acquire::Take);
    }

    #[test]
    fn a_host_that_was_booted_waits_a_moment_for_a_copy_of_its_folder_elsewhere() {
        let copied = lease("me", "a");
        assert!(matches!(asked(&copied, "1", 0), Acquire::Watch(wait) if wait.as_secs() == 20));
        assert_eq!(asked(&copied, "1", 20), Acquire::Take);
        assert_eq!(asked(&copied, "0", 20), Acquire::Refused, "the copy renews it");
    }

    #[test]
    fn another_host_of_the_same_name_is_refused_until_the_lease_is_over() {
        let other = lease("other", "a");
        assert!(matches!(asked(&other, "1", 74), Acquire::Watch(wait) if wait.as_secs() == 75));
        assert_eq!(asked(&other, "0", 1), Acquire::Refused, "it renews");
        assert_eq!(asked(&other, "1", 75), Acquire::Take, "it is gone");
        assert_eq!(asked(&Seen { over: true, ..other }, "0", 0), Acquire::Take);
    }
}
