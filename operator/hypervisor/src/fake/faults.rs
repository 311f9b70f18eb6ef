//! The planned faults, and the number of calls of each operation.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::HvError;
use crate::locks::lock;

/// The operations of [`crate::Hypervisor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    Facts,
    Health,
    BootTemplate,
    Capture,
    Tiers,
    Goldens,
    RemoveGolden,
    Create,
    Reset,
    UpdateLimits,
    Resume,
    Pause,
    Park,
    Quarantine,
    Usage,
    State,
    Destroy,
    List,
    Connect,
    PutInput,
    Collect,
    Subnet,
    Ipv6,
    ApplyPolicies,
    OpenLink,
    LeaseLink,
    CloseLink,
    Traffic,
    Sweep,
    Disk,
}

/// One thing that goes wrong, once.
#[derive(Debug)]
pub enum Fault {
    /// Nothing happens, and this is the answer.
    Fail(HvError),
    /// It happens after a while.
    Delay(Duration),
    /// It happens, and the caller gets [`HvError::OutcomeUnknown`].
    DoneButUnknown,
}

/// Faults by operation and call.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    calls: HashMap<Op, u64>,
    planned: HashMap<(Op, u64), Fault>,
}

impl Faults {
    /// The next call of `op` gets `fault`.
    pub fn next(&self, op: Op, fault: Fault) {
        self.nth(op, 1, fault);
    }

    /// The `nth` call of `op` from now on (1 is the next) gets `fault`.
    pub fn nth(&self, op: Op, nth: u64, fault: Fault) {
        let mut inner = lock(&self.0);
        let at = inner.calls.get(&op).copied().unwrap_or(0) + nth.max(1);
        inner.planned.insert((op, at), fault);
    }

    /// Nothing more goes wrong.
    pub fn clear(&self) {
        lock(&self.0).planned.clear();
    }

    /// The number of calls of `op`.
    pub fn calls(&self, op: Op) -> u64 {
        lock(&self.0).calls.get(&op).copied().unwrap_or(0)
    }

    pub(super) fn take(&self, op: Op) -> Option<Fault> {
        let mut inner = lock(&self.0);
        let calls = inner.calls.entry(op).or_default();
        *calls += 1;
        let at = *calls;
        inner.planned.remove(&(op, at))
    }
}
