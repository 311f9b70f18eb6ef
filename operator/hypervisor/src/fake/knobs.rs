//! The settings of a test: the offered tier, failing parts of proofs, lying agents, and kills.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use agentvm_core::names::DomainName;

use crate::locks::lock;
use crate::{Channel, Check, DiskUse, Proof, StepHook, Tier, TierReport};

/// All of it at rest: resets in place are offered and nothing fails.
#[derive(Debug, Default)]
pub struct Knobs(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    tiers: Option<TierReport>,
    hook: StepHook,
    failing: HashMap<String, u32>,
    lies: u32,
    disk: Option<DiskUse>,
    tap: Tap,
}

/// Stands between the host and the agents: it gets each channel that is opened, with the name of
/// its machine, and gives the host another one.
#[derive(Clone, Default)]
struct Tap(Option<Arc<TapChannel>>);

type TapChannel = dyn Fn(&DomainName, Channel) -> Channel + Send + Sync;

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Tap" } else { "no tap" })
    }
}

impl Knobs {
    /// Sets the result of every golden's self-test from now on.
    pub fn set_tiers(&self, best: Tier, why_not_better: &str) {
        lock(&self.0).tiers = Some(TierReport::limited_to(best, why_not_better));
    }

    /// Called before each step of capture, creation and reset.
    pub fn set_hook(&self, hook: StepHook) {
        lock(&self.0).hook = hook;
    }

    /// The proof of the next `times` resets fails in this part (one of [`Proof::CHECKS`]).
    pub fn sabotage(&self, check: &str, times: u32) {
        lock(&self.0).failing.insert(check.to_owned(), times);
    }

    /// The next `times` agents, for creations and resets, claim to be of another golden.
    pub fn lie(&self, times: u32) {
        lock(&self.0).lies = times;
    }

    /// The disk is like this from now on. At rest it has plenty of space.
    pub fn set_disk(&self, free_bytes: u64, machines: Vec<(DomainName, u64)>) {
        lock(&self.0).disk = Some(DiskUse { place: "/disk".into(), free_bytes, machines });
    }

    pub(super) fn disk(&self, place: &Path) -> DiskUse {
        let plenty =
            || DiskUse { place: place.to_owned(), free_bytes: 1 << 50, machines: Vec::new() };
        lock(&self.0).disk.clone().unwrap_or_else(plenty)
    }

    /// Puts something between the host and the agents of the channels that are opened from now on.
    pub fn set_tap(&self, tap: impl Fn(&DomainName, Channel) -> Channel + Send + Sync + 'static) {
        lock(&self.0).tap = Tap(Some(Arc::new(tap)));
    }

    pub(super) fn tapped(&self, name: &DomainName, channel: Channel) -> Channel {
        let Tap(tap) = lock(&self.0).tap.clone();
        match tap {
            Some(tap) => tap(name, channel),
            None => channel,
        }
    }

    pub(super) fn tiers(&self) -> TierReport {
        let best = TierReport::in_place();
        lock(&self.0).tiers.clone().unwrap_or(best)
    }

    pub(super) fn hook(&self) -> StepHook {
        lock(&self.0).hook.clone()
    }

    pub(super) fn lies(&self) -> bool {
        take(&mut lock(&self.0).lies)
    }

    pub(super) fn checks(&self) -> Vec<Check> {
        let mut inner = lock(&self.0);
        let check = |name: &str| {
            let fails = inner.failing.get_mut(name).is_some_and(take);
            let result = if fails { Err("sabotaged".to_owned()) } else { Ok(()) };
            Check { name: name.to_owned(), result }
        };
        Proof::CHECKS.map(check).to_vec()
    }
}

/// Whether there was one left.
fn take(count: &mut u32) -> bool {
    let some = *count > 0;
    *count = count.saturating_sub(1);
    some
}
