//! Opening and closing the link of one machine.

use std::panic;
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};

use agentvm_core::names::DomainName;
use agentvm_core::network::{Link, Wire, rules};

use super::netlink::{bridge, device};
use super::state::State;
use super::{Firewall, connections, counters, io, unavailable};
use crate::{HvError, Traffic};

type Forgetting<'scope> = ScopedJoinHandle<'scope, Result<(), HvError>>;

impl Firewall {
    /// See [`crate::Hypervisor::open_link`].
    pub fn admit(self: &Arc<Self>, name: &DomainName, link: &Link) -> Result<(), HvError> {
        let what = format!("connect machine {name}");
        if device::is_up(&link.nic.tap).map_err(io("look at", &link.nic.tap))? != Some(false) {
            return self.change(|state| self.connect(&what, name, link, None, state));
        }
        // The tap of another incarnation, or of another machine that had the address: its
        // connections end. A process looks through the kernel's whole table for them, so the
        // process that changes the rules runs at the same time.
        thread::scope(|scope| {
            let forgetting = scope.spawn(|| connections::flush(link));
            self.change(|state| self.connect(&what, name, link, Some(forgetting), state))
        })
    }

    /// `forgetting` where the tap is down; it ends before the tap goes up.
    fn connect(
        &self,
        what: &str,
        name: &DomainName,
        link: &Link,
        forgetting: Option<Forgetting<'_>>,
        state: &mut State,
    ) -> Result<(), HvError> {
        if !state.policies.contains_key(&link.owner_uid) {
            return Err(unavailable(what, "there is no policy of its owner yet"));
        }
        if let Wire::Bridge { .. } = link.nic.wire {
            self.look_at_host(state)?;
        }
        if !state.open.contains_key(name) {
            self.add(what, name, link, state)?;
        } else if forgetting.is_some() {
            // A reset only sets the tap down, so the rules are still there. They count from here.
            self.begin_counts(name)?;
            self.unlease(what, name, state)?;
        }
        if self.taps.are_held() {
            self.mend(state)?;
        }
        let forgotten = forgetting
            .map_or(Ok(()), |thread| thread.join().unwrap_or_else(|why| panic::resume_unwind(why)));
        forgotten.and_then(|()| self.set_tap_up(what, link)).inspect_err(|_| {
            self.take_back(what, name, link, state);
        })
    }

    /// Adds a machine to the rules.
    fn add(
        &self,
        what: &str,
        name: &DomainName,
        link: &Link,
        state: &mut State,
    ) -> Result<(), HvError> {
        self.machines.begin_meter(name, link);
        let added = self.rules.nft().run(what, &rules::add_link(self.table(), link));
        state.open.insert(name.clone(), link.clone());
        added.or_else(|why| self.made_anew(what, &why, state)).inspect_err(|_| {
            state.open.remove(name);
        })
    }

    fn set_tap_up(&self, what: &str, link: &Link) -> Result<(), HvError> {
        let tap = &link.nic.tap;
        let up = bridge::harden_port(&link.nic).and_then(|()| self.taps.up(tap));
        up.map_err(|why| unavailable(what, format!("its device {tap} can't be set up: {why}")))
    }

    /// A link that couldn't be opened is in no set either.
    fn take_back(&self, what: &str, name: &DomainName, link: &Link, state: &mut State) {
        state.open.remove(name);
        let text = rules::remove_link(self.table(), link) + &state.revoke_lease(self.table(), name);
        if let Err(why) = self.rules.nft().run(what, &text) {
            tracing::warn!(
                %name,
                error = &why as &dyn std::error::Error,
                "a link that isn't open stays in the rules"
            );
        }
    }

    /// Sets a machine's tap down and no more: at the start of a reset, which is in a hurry, and
    /// before the first link of a machine is opened. Frames that waited there are dropped.
    pub fn set_tap_down(&self, tap: &str) -> Result<(), HvError> {
        self.taps.down(tap).map_err(io("set down", tap))?;
        device::drain(tap).map_err(io("drop what waits in", tap))
    }

    /// See [`crate::Hypervisor::close_link`].
    pub fn cut_off(self: &Arc<Self>, name: &DomainName, link: &Link) -> Result<(), HvError> {
        let what = format!("cut off machine {name}");
        self.set_tap_down(&link.nic.tap)?;
        let was_open = self.change(|state| self.cut(&what, name, link, state))?;
        if was_open { connections::flush(link) } else { Ok(()) }
    }

    /// Takes a machine out of the rules. `false`: it was not there.
    fn cut(
        &self,
        what: &str,
        name: &DomainName,
        link: &Link,
        state: &mut State,
    ) -> Result<bool, HvError> {
        if state.open.remove(name).is_none() {
            return Ok(false);
        }
        let text = counters::questions(self.table(), link)
            + &rules::remove_link(self.table(), link)
            + &state.revoke_lease(self.table(), name);
        match self.rules.nft().ask(what, &text) {
            Ok(answer) => self.machines.close_meter(name, counters::of_answer(link, &answer)),
            Err(why) => self.made_anew(what, &why, state)?,
        }
        Ok(true)
    }

    /// A few elements couldn't be changed, so the whole table is written.
    pub(super) fn made_anew(
        &self,
        what: &str,
        why: &HvError,
        state: &mut State,
    ) -> Result<(), HvError> {
        tracing::warn!(
            what,
            error = why as &dyn std::error::Error,
            "the rules are not what they were; they are made anew"
        );
        self.rebuild(what, state)
    }

    /// From here on, the counters of a new machine count for it.
    pub fn begin_counts(&self, name: &DomainName) -> Result<(), HvError> {
        let Some(link) = self.machines.link(name) else { return Ok(()) };
        let now = counters::read(self.rules.nft(), self.table(), &link)?;
        self.machines.reset_meter(name, now);
        Ok(())
    }

    /// See [`crate::Hypervisor::traffic`].
    pub fn traffic(&self, name: &DomainName, link: &Link) -> Result<Traffic, HvError> {
        let now = counters::read(self.rules.nft(), self.table(), link)?;
        Ok(self.machines.since_opened(name, now))
    }
}
