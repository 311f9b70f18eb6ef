//! The place where a machine's traffic is measured: two namespaces, one for the host and one for
//! the internet. The machine's tap is moved into the first one. Its packets never meet the packets
//! of the host. The bench needs no route and no rule of the host, and can remove the product's
//! rules here without their return.
//!
//! ```text
//! machine ── tap ─ bridge, rules (host) ─ veth ── (internet) 203.0.113.80
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use agentvm_core::network::{Link, Nic, Policy, Subnet};
use agentvm_hypervisor::{Firewall, MachineRecord};
use ipnet::IpNet;

use super::namespace::{Namespace, ip};
use super::stand_in::{DEVICE, StandIn};
use super::talk::{ADDRESS, Talk};
use crate::error::{BenchError, step};

/// The host's address on the wire to the internet.
const HOST: &str = "203.0.113.254";
/// Whether the kernel also shows bridged packets to the rules for routed packets.
const BRIDGED: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// The rules for the machine.
#[derive(Clone, Debug)]
pub enum Held {
    /// The product's rules, with this policy.
    ByRules(Policy),
    /// No rules and no table, so no masquerading and no tracking either.
    ByNothing,
}

#[derive(Debug)]
pub struct Place {
    host: Namespace,
    internet: Namespace,
    subnet: Subnet,
    record: MachineRecord,
    link: Link,
    deny_list: Vec<IpNet>,
    /// The firewall with the rules in force.
    firewall: Option<Arc<Firewall>>,
}

impl Place {
    /// The machine's tap is not moved yet.
    pub async fn new(
        subnet: Subnet,
        record: MachineRecord,
        deny_list: Vec<IpNet>,
    ) -> Result<Self, BenchError> {
        let link = record
            .link()
            .ok_or_else(|| BenchError::Found("the machine has no network device".to_owned()))?;
        let (host, internet) = (Namespace::new()?, Namespace::new()?);
        let this = Self { host, internet, subnet, record, link, deny_list, firewall: None };
        this.wire().await?;
        Ok(this)
    }

    /// Makes the network like libvirt and the product make it on the host.
    async fn wire(&self) -> Result<(), BenchError> {
        let Subnet { bridge, gateway, prefix } = &self.subnet;
        let mac = Firewall::new(&self.record.instance).gateway_mac();
        let bridged = fs::read_to_string(BRIDGED).ok();
        let commands = format!(
            "link set lo up\n\
             link add {bridge} address {mac} type bridge stp_state 0 forward_delay 0 \
             no_linklocal_learn 1\n\
             addr add {gateway}/{prefix} dev {bridge}\n\
             link set {bridge} up\n\
             link add wire type veth peer name wire netns {}\n\
             addr add {HOST}/24 dev wire\n\
             link set wire up\n",
            self.internet.path()
        );
        let job = move || {
            ip(&commands)?;
            fs::write("/proc/sys/net/ipv4/ip_forward", "1")
                .map_err(step("let a network namespace route"))?;
            bridged
                .map_or(Ok(()), |value| fs::write(BRIDGED, value))
                .map_err(step("set up a network namespace"))
        };
        self.host.within(job).await?;
        let net = self.subnet.net();
        let commands = format!(
            "link set lo up\naddr add {ADDRESS}/24 dev wire\nlink set wire up\nroute add {net} via \
             {HOST}\n"
        );
        let job = move || {
            ip(&commands)?;
            // A connection must not reuse what an earlier one learnt, because machines have other
            // addresses here with and without rules.
            fs::write("/proc/sys/net/ipv4/tcp_no_metrics_save", "1")
                .map_err(step("set up a network namespace"))
        };
        self.internet.within(job).await
    }

    /// Moves the machine's tap out of the host. It is down from then on, until [`Self::hold`].
    pub async fn move_tap(&self) -> Result<(), BenchError> {
        ip(&format!("link set dev {} netns {}", self.link.nic.tap, self.host.path()))?;
        self.attach().await
    }

    /// Puts a process of the host in place of the machine.
    pub async fn stand_in(&self) -> Result<StandIn, BenchError> {
        let Subnet { gateway, prefix, .. } = &self.subnet;
        let Nic { tap, mac, .. } = &self.link.nic;
        let address = self
            .link
            .nic
            .address()
            .ok_or_else(|| BenchError::Found("the machine has no address".to_owned()))?;
        let machine = Namespace::new()?;
        self.host
            .ip(format!("link add {tap} type veth peer name {DEVICE} netns {}", machine.path()))
            .await?;
        self.attach().await?;
        let gateway_mac = Firewall::new(&self.record.instance).gateway_mac();
        let commands = format!(
            "link set {DEVICE} address {mac} up\naddr add {address}/{prefix} dev {DEVICE}\nroute \
             add default via {gateway}\n\
             neigh replace {gateway} lladdr {gateway_mac} nud permanent dev {DEVICE}"
        );
        StandIn::start(machine, commands).await
    }

    async fn attach(&self) -> Result<(), BenchError> {
        let (tap, bridge) = (&self.link.nic.tap, &self.subnet.bridge);
        let commands = format!(
            "link set dev {tap} master {bridge}\nlink set dev {tap} type bridge_slave isolated on"
        );
        self.host.ip(commands).await
    }

    /// Changes the rules for the machine, and waits until the machine connects.
    pub async fn hold(&mut self, held: &Held) -> Result<Talk, BenchError> {
        match held {
            Held::ByRules(policy) => self.rule(policy.clone()).await?,
            Held::ByNothing => self.free().await?,
        }
        Talk::hear(&self.internet).await
    }

    async fn rule(&mut self, policy: Policy) -> Result<(), BenchError> {
        let instance = &self.record.instance;
        let firewall =
            self.firewall.get_or_insert_with(|| Arc::new(Firewall::new(instance))).clone();
        let (subnet, record, link, deny_list) =
            (self.subnet.clone(), self.record.clone(), self.link.clone(), self.deny_list.clone());
        let job = move || {
            let policies = BTreeMap::from([(record.owner_uid.clone(), policy)]);
            let policed =
                firewall.enforce(&subnet, policies, &deny_list, std::slice::from_ref(&record));
            policed
                .and_then(|refused| refused.into_values().next().map_or(Ok(()), Err))
                .and_then(|()| firewall.admit(&record.name, &link))
                .map_err(step("set the rules of the machine"))
        };
        self.host.within(job).await
    }

    async fn free(&mut self) -> Result<(), BenchError> {
        let (firewall, tap) = (self.firewall.take(), self.link.nic.tap.clone());
        let job = move || {
            // Drop the firewall here, so that its watch ends. Otherwise the watch would write the
            // rules again.
            firewall
                .map_or(Ok(()), |firewall| firewall.remove())
                .map_err(step("take the rules away"))?;
            ip(&format!("link set dev {tap} up"))
        };
        self.host.within(job).await
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use crate::network::tests::example;
    use crate::network::throughput;
    use crate::report::Report;

    use super::*;

    #[tokio::test]
    #[cfg_attr(
        not(feature = "host-tests"),
        ignore = "needs root and programs of the host: make test-host"
    )]
    async fn a_machine_is_measured_with_rules_and_without_in_turn() {
        let ground = example("/bench-place-test");
        let place = Place::new(ground.subnet, ground.record, ground.deny_list).await.unwrap();
        let _machine = place.stand_in().await.unwrap();
        let mut report = Report::new("network", serde_json::Map::new());
        throughput::measure(place, ground.policy, throughput::WIRE, 2, &mut report).await.unwrap();
        for way in throughput::WIRE {
            for figure in ["sent", "received", "answer", "connection"] {
                let summary = report.summary(&format!("{way}/{figure}")).unwrap();
                assert!(summary.n == 2 && summary.min > 0.0, "{way}/{figure}: {summary:?}");
            }
        }
    }

    #[tokio::test]
    #[cfg_attr(
        not(feature = "host-tests"),
        ignore = "needs root and programs of the host: make test-host"
    )]
    async fn without_rules_there_are_none_and_with_them_they_hold() {
        let ground = example("/bench-rules-test");
        let mut place = Place::new(ground.subnet, ground.record, ground.deny_list).await.unwrap();
        let _machine = place.stand_in().await.unwrap();
        let mut tables = Vec::new();
        for held in
            [Held::ByRules(ground.policy.clone()), Held::ByNothing, Held::ByRules(ground.policy)]
        {
            drop(place.hold(&held).await.unwrap());
            let list = || Ok(Command::new("nft").args(["list", "tables"]).output().unwrap().stdout);
            tables.push(
                String::from_utf8(place.host.within(list).await.unwrap()).unwrap().lines().count(),
            );
        }
        assert_eq!(tables, [2, 0, 2]);
    }
}
