//! The interface on a network of others': an address as long as a DHCP server grants it.

use std::net::Ipv4Addr;
use std::time::Duration;

use agentvm_guest_agent::protocol::GuestLease;
use tokio::time::timeout;

use super::dhcp::{Tenant, Terms, Turn};
use super::netlink::Netlink;
use super::{Network, NetworkError, apply, change, empty, switch_ipv6, without_addresses};
use crate::log;

impl Network {
    /// Returns when there is an address: the address, and the name servers. An existing lease is as
    /// good as a new one.
    pub async fn lease(
        &mut self,
        order: &GuestLease,
    ) -> Result<(Ipv4Addr, Vec<Ipv4Addr>), NetworkError> {
        self.arrive(order.mac.bytes())?;
        let patience = Duration::from_millis(order.patience_millis);
        let Ok(terms) = timeout(patience, self.held()).await else {
            let why = self.tenant.as_ref().map(|tenant| tenant.trouble()).unwrap_or_default();
            return Err(NetworkError::NoLease { seconds: patience.as_secs(), why });
        };
        let terms = terms?;
        let asked =
            if order.resolvers.is_empty() { terms.resolvers } else { order.resolvers.clone() };
        Ok((terms.address, asked))
    }

    /// Renews the lease, and removes the address when the lease ends. Never ends; may be dropped at
    /// any time.
    pub async fn keep_lease(&mut self) {
        loop {
            if let Err(why) = self.next().await {
                log::error("the machine's address could not be kept as it was leased", &why);
            }
        }
    }

    /// Brings the interface up without an address. A client looks for one from now on.
    fn arrive(&mut self, mac: [u8; 6]) -> Result<(), NetworkError> {
        if self.tenant.as_ref().is_some_and(|tenant| tenant.mac() == mac) {
            return Ok(());
        }
        let index = self.interface()?.ok_or(NetworkError::NoInterface)?;
        let kernel = Netlink::kept(&mut self.kernel).map_err(NetworkError::Netlink)?;
        self.joined = true;
        empty(kernel, index)?;
        switch_ipv6(&mut self.ipv6, self.interface.as_ref(), false)?;
        apply(kernel, &[change::up(index, mac)])?;
        self.tenant =
            self.interface.as_ref().map(|interface| Box::new(Tenant::new(mac, interface.name())));
        Ok(())
    }

    async fn held(&mut self) -> Result<Terms, NetworkError> {
        // A lease that has run out in the meantime is gone.
        let due = self.tenant.as_mut().map(|tenant| tenant.turn(None)).unwrap_or_default();
        self.take(due)?;
        loop {
            if let Some(terms) = self.tenant.as_ref().and_then(|tenant| tenant.has.as_ref()) {
                return Ok(terms.clone());
            }
            self.next().await?;
        }
    }

    async fn next(&mut self) -> Result<(), NetworkError> {
        let turns = match &mut self.tenant {
            Some(tenant) => tenant.next().await,
            None => std::future::pending().await,
        };
        self.take(turns)
    }

    fn take(&mut self, turns: Vec<Turn>) -> Result<(), NetworkError> {
        turns.into_iter().try_for_each(|turn| match turn {
            Turn::Hold(terms) => self.hold(terms),
            Turn::Lose(why) => {
                log::info(&format!("the machine has no address any more: {why}"));
                self.hold_nothing()
            }
        })
    }

    /// More time for the same is nothing to change.
    fn hold(&mut self, terms: Terms) -> Result<(), NetworkError> {
        let place = |terms: &Terms| (terms.address, terms.prefix, terms.gateway);
        let has = self.tenant.as_ref().and_then(|tenant| tenant.has.as_ref());
        if has.map(place) == Some(place(&terms)) {
            return Ok(());
        }
        self.hold_nothing()?;
        let index = self.interface()?.ok_or(NetworkError::NoInterface)?;
        let kernel = Netlink::kept(&mut self.kernel).map_err(NetworkError::Netlink)?;
        apply(kernel, &[change::address(index, terms.address.into(), terms.prefix)])?;
        let through = terms.gateway.map(|gateway| change::default_route(index, gateway.into()));
        apply(kernel, through.as_slice())?;
        log::info(&format!(
            "the machine has {}/{} of {}",
            terms.address, terms.prefix, terms.server
        ));
        self.has(Some(terms));
        Ok(())
    }

    /// Routes go with the last address.
    fn hold_nothing(&mut self) -> Result<(), NetworkError> {
        self.has(None);
        let index = self.interface()?.ok_or(NetworkError::NoInterface)?;
        let kernel = Netlink::kept(&mut self.kernel).map_err(NetworkError::Netlink)?;
        without_addresses(kernel, index)
    }
    fn has(&mut self, terms: Option<Terms>) {
        if let Some(tenant) = &mut self.tenant {
            tenant.has = terms;
        }
    }
}
