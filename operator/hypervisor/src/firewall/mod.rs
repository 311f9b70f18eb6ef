//! The firewall of this host's machines: the rules that hold them, their links and their counters.
//!
//! ```text
//! enforce(policies) ─► State (what the rules are to say) ─► RuleTable ─► rules (core) ─► nft
//! admit, cut_off, lease ─► elements of one machine ─────────────────────────────────────► nft
//!                  └──► Taps (up or down) ─► netlink
//! threads: foreign_changes (rules that others changed are put back), host_addresses, flows
//! ```
//! A link is closed when its tap is down *and* it is in no set of the rules. To open it, it is
//! first added to the sets, and then the tap goes up. To close it, the order is the reverse. So no
//! packet of a machine ever meets a host that doesn't know the machine. A reset, which is in a
//! hurry, only sets the tap down: the same machine has the same device and rules again right
//! after. Only the taps keep whether a link is open: an operator that follows one that was killed
//! finds it there.

mod connections;
mod counters;
pub mod flows;
mod foreign_changes;
mod host_addresses;
#[cfg(test)]
mod in_test_namespace;
pub mod ipv6;
mod known_machines;
mod leases;
mod links;
pub mod netlink;
mod nft;
mod policies;
mod qemu_egress;
mod router_announcements;
mod rule_table;
mod state;
mod taps;

#[cfg(test)]
mod tests;

use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, Once};

use agentvm_core::names::InstanceId;
use agentvm_core::network::{Mac, Subnet, Table};

use crate::HvError;
use crate::locks::lock;
pub use known_machines::KnownMachines;
pub use nft::unavailable;
use rule_table::RuleTable;
pub use state::Policies;
use state::State;
use taps::Taps;

/// The rules of one installation.
#[derive(Debug)]
pub struct Firewall {
    rules: RuleTable,
    taps: Taps,
    machines: KnownMachines,
    /// Held while the rules are changed, so that changes take turns.
    state: Mutex<State>,
    /// Asked often, so never held for long. `None` before the first policies, and after a failure.
    in_force: Mutex<Option<Arc<Policies>>>,
    watches: Once,
    /// A warning was written that no rule keeps QEMU from the host's network.
    unconfined: Once,
}

impl Firewall {
    pub fn new(instance: &InstanceId) -> Self {
        Self::confining(instance, None)
    }

    /// `qemu_users` are the users of QEMU processes, if no other process has these users.
    pub fn confining(instance: &InstanceId, qemu_users: Option<RangeInclusive<u32>>) -> Self {
        Self {
            rules: RuleTable::new(instance, qemu_users),
            taps: Taps::default(),
            machines: KnownMachines::default(),
            state: Mutex::default(),
            in_force: Mutex::default(),
            watches: Once::new(),
            unconfined: Once::new(),
        }
    }

    pub fn table(&self) -> &Table {
        self.rules.table()
    }

    pub fn gateway_mac(&self) -> Mac {
        self.rules.gateway_mac()
    }

    pub fn machines(&self) -> &KnownMachines {
        &self.machines
    }

    /// Whether this process has not written its rules yet. Then [`Self::enforce`] must hear which
    /// machines exist.
    pub fn is_new(&self) -> bool {
        !lock(&self.state).made
    }

    /// Call this before the first device of a machine appears: from here on, the rules drop unknown
    /// packets. Rules that another process of this installation left stay, because machines may use
    /// them.
    pub fn guard(self: &Arc<Self>, subnet: &Subnet) -> Result<(), HvError> {
        self.change(|state| {
            let moved = state.subnet.as_ref() != Some(subnet);
            state.subnet = Some(subnet.clone());
            if (state.made && !moved) || (!state.made && self.rules.is_in_force()) {
                return Ok(());
            }
            self.rebuild("guard the network", state)
        })
    }

    /// Removes the rules, at an uninstall and after the last machine.
    pub fn remove(&self) -> Result<(), HvError> {
        let mut state = lock(&self.state);
        *lock(&self.in_force) = None;
        let made = std::mem::take(&mut *state).made;
        self.rules.remove(made)
    }

    /// One change of the rules at a time. With the first rules of this process, its watches start.
    fn change<T>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut State) -> Result<T, HvError>,
    ) -> Result<T, HvError> {
        let mut state = lock(&self.state);
        let changed = change(&mut state);
        if state.made {
            self.watches.call_once(|| self.start_watches());
        }
        changed
    }

    /// The threads end when the firewall is dropped.
    fn start_watches(self: &Arc<Self>) {
        foreign_changes::start(self);
        host_addresses::start(self);
    }

    /// Writes the whole table again, without the old counters and limits: at the start, and after
    /// another process changed it.
    fn rebuild(&self, what: &str, state: &mut State) -> Result<(), HvError> {
        if self.rules.rebuild(what, state)? {
            self.machines.forget_counts();
        }
        Ok(())
    }

    /// Writes the whole table; counters and limits stay, where the table allows it.
    fn rewrite(&self, state: &mut State) -> Result<(), HvError> {
        let what = "set the rules";
        if !state.made {
            return self.rebuild(what, state);
        }
        self.rules.rewrite(what, state).or_else(|why| {
            tracing::debug!(
                error = &why as &dyn std::error::Error,
                "the rules can't be changed; they are made anew"
            );
            self.rebuild(what, state)
        })
    }

    /// Another process changed our table: all taps go down until it is mended. It waits for
    /// nothing that takes time.
    fn hold(&self) {
        self.taps.hold(self.machines.taps().iter().map(String::as_str));
    }

    /// Writes the table anew, and sets up again the taps that were up.
    fn put_back(self: &Arc<Self>) -> Result<(), HvError> {
        self.change(|state| self.mend(state))
    }

    fn mend(&self, state: &mut State) -> Result<(), HvError> {
        if state.made {
            self.rebuild("put the rules back", state)?;
        }
        self.taps.release();
        Ok(())
    }
}

fn io(what: &str, device: &str) -> impl FnOnce(io::Error) -> HvError {
    let what = format!("{what} {device}");
    move |source| HvError::Io { what, source }
}
