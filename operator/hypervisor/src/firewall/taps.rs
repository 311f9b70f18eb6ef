//! The taps of the machines: each is up or down. While the rules are in doubt, all taps are held
//! down. Afterwards the taps that were up go up again, except those that were set down meanwhile.

use std::collections::BTreeSet;
use std::io;
use std::sync::Mutex;

use super::netlink::device;
use crate::locks::lock;

#[derive(Debug, Default)]
pub struct Taps(Mutex<Held>);

/// Locked for each switch, so that a tap that is set down stays down.
#[derive(Debug, Default)]
struct Held {
    /// Whether any may go up.
    holding: bool,
    /// Were up, and are to be so again.
    taps: BTreeSet<String>,
}

impl Taps {
    /// The rules of this tap are in force. While taps are held, it waits with them.
    pub fn up(&self, tap: &str) -> io::Result<()> {
        let mut held = lock(&self.0);
        if held.holding {
            held.taps.insert(tap.to_owned());
            return Ok(());
        }
        device::set_up(tap, true)
    }

    /// One that isn't there is down too.
    pub fn down(&self, tap: &str) -> io::Result<()> {
        let mut held = lock(&self.0);
        held.taps.remove(tap);
        device::set_down(tap)
    }

    /// Sets the taps that are up down, until [`Self::release`].
    pub fn hold<'a>(&self, taps: impl IntoIterator<Item = &'a str>) {
        let mut held = lock(&self.0);
        held.holding = true;
        for tap in taps {
            let was_up = device::is_up(tap);
            if matches!(was_up, Ok(None | Some(false))) {
                continue;
            }
            match device::set_down(tap) {
                Ok(()) => drop(held.taps.insert(tap.to_owned())),
                Err(error) => {
                    tracing::error!(tap, %error, "a machine that should be cut off can't be");
                }
            }
        }
    }

    pub fn are_held(&self) -> bool {
        lock(&self.0).holding
    }

    /// The rules are in force again.
    pub fn release(&self) {
        let mut held = lock(&self.0);
        held.holding = false;
        for tap in std::mem::take(&mut held.taps) {
            let gone_with_its_machine = matches!(device::is_up(&tap), Ok(None));
            if let Err(error) = device::set_up(&tap, true)
                && !gone_with_its_machine
            {
                tracing::warn!(tap, %error, "a machine that was cut off while the rules were put \
                    back can't be connected again");
            }
        }
    }
}
