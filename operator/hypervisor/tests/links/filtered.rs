//! A host where each interface has to have a filter of libvirt's.

use std::time::Instant;

use agentvm_core::names::DomainName;
use agentvm_core::network::{Mac, Nic, derive_mac};
use agentvm_hypervisor::libvirt::LibvirtFilter;
use agentvm_hypervisor::{GoldenApi, LinkApi, MachineApi, Stop, Tier};

use crate::leased::{on, order, woken};
use crate::libvirt_host::leftovers::virsh;
use crate::libvirt_host::{TOKEN, took};
use crate::pair::{OTHER, OTHER_V6, OWN, OWN_V6, PEER, PEER_V6, Pair};
use crate::plugged::{Plugged, reach};
use agentvm_testing::networks::internet::DNS;
use agentvm_testing::networks::lan::{Lan, SERVER};

/// A filter that was found, by its UUID; removed with it where a test failed.
struct Found {
    name: String,
    uuid: String,
}

impl Found {
    /// That of a machine's interface.
    fn of(machine: &DomainName) -> Self {
        let xml = virsh(&["dumpxml", machine.as_str()]);
        let name =
            xml.split("<filterref filter='").nth(1).unwrap().split('\'').next().unwrap().to_owned();
        let definition = virsh(&["nwfilter-dumpxml", &name]);
        let uuid = definition.split("<uuid>").nth(1).unwrap().split('<').next().unwrap().to_owned();
        Self { name, uuid }
    }

    fn is_there(&self) -> bool {
        !virsh(&["nwfilter-dumpxml", &self.uuid]).is_empty()
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        virsh(&["nwfilter-undefine", &self.uuid]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_a_filter_of_libvirt_s_works_and_the_filter_goes_with_the_network() {
    let (mut on_nat, mut on_bridge, mut with_ipv6) = (None, None, None);
    let lab = Plugged::filtered("filtered", LibvirtFilter::Enabled).await;
    lab.golden().await;
    assert_eq!(lab.hv.tiers(&lab.key).await.unwrap().tier, Tier::InPlace);
    let first = lab.spec(0, "nonce-0");
    let name = &first.record.name;
    let creating = Instant::now();
    lab.hv.create(&first).await.unwrap();
    took("create with a filter of libvirt's", creating);
    let on_nat = on_nat.insert(Found::of(name));
    assert!(on_nat.name.starts_with("agent-network-filter"), "{}", on_nat.name);
    for round in 1..=2 {
        lab.hv.open_link(name).await.unwrap();
        lab.hv.resume(name).await.unwrap();
        let mut guest = lab.guest(&first).await;
        assert_eq!(
            guest.sh(TOKEN, &reach()).await,
            (Some(0), "reached".to_owned()),
            "round {round}"
        );
        let proof = lab.hv.reset(&lab.spec(0, &format!("nonce-{round}"))).await.unwrap();
        println!("measured: reset with a filter of libvirt's: {:?}", proof.took());
        assert_eq!(proof.failure(), None);
    }
    stops_what_is_not_its_own(on_nat, lab.hv.gateway_mac());

    let lan = Lan::new(lab.host.instance.as_str(), DNS);
    let second = on(&lab, &lan, 1);
    let mut guest = woken(&lab, &second).await;
    let nonce = guest.rehydrate(TOKEN).await;
    let address = guest.lease(&order(&second, 0)).await.unwrap();
    lab.hv.lease_link(&second.record.name, address).await.unwrap();
    let reach = format!("timeout 10 bash -c 'exec 3<>/dev/tcp/{SERVER}/53' && echo reached");
    assert_eq!(guest.execute(&nonce, &reach).await, (Some(0), "reached".to_owned()));
    let on_bridge = on_bridge.insert(Found::of(&second.record.name));
    assert!(on_bridge.name.contains("-bridge"), "{}", on_bridge.name);
    begins_and_is_not_begun_with(on_bridge);

    let mut third = lab.spec(2, "nonce-0");
    let address = third.record.nic.as_ref().unwrap().address().unwrap();
    third.record.nic = Some(Nic::dual(&lab.host.instance, &lab.subnet, address));
    lab.hv.create(&third).await.unwrap();
    let with_ipv6 = with_ipv6.insert(Found::of(&third.record.name));
    assert!(with_ipv6.name.contains("-ipv6"), "{}", with_ipv6.name);
    has_two_addresses(with_ipv6, lab.hv.gateway_mac());
    lab.hv.destroy(&third.record.name, Stop::Force).await.unwrap();

    let destroying = Instant::now();
    lab.hv.destroy(name, Stop::Force).await.unwrap();
    took("destroy with a filter of libvirt's", destroying);
    assert!(on_nat.is_there(), "a machine is left");
    lab.hv.destroy(&second.record.name, Stop::Force).await.unwrap();
    lab.hv.release().await;
    assert!(!on_nat.is_there() && !on_bridge.is_there() && !with_ipv6.is_there());
    assert_eq!(lab.internet.escaped(), 0);
}

/// On devices that no rules of ours know, so that libvirt's filter is all there is.
fn stops_what_is_not_its_own(filter: &Found, gateway_mac: Mac) {
    let pair = Pair::new("n", gateway_mac);
    let stranger = derive_mac(&["stranger"]);
    assert!(pair.reaches(OWN, PEER) && pair.reaches(OTHER, PEER), "nothing stops it yet");
    pair.bind(&filter.name, &[("IP", OWN.to_owned()), ("GATEWAY_MAC", gateway_mac.to_string())]);
    assert!(pair.reaches(OWN, PEER), "what is its own passes");
    assert!(pair.is_stopped(OWN_V6, PEER_V6), "IPv6 where there is none");
    assert!(pair.is_stopped(OTHER, PEER), "another address");
    pair.set_mac(stranger);
    assert!(pair.is_stopped(OWN, PEER), "another MAC");
    pair.set_mac(pair.mac);
    assert!(pair.reaches(OWN, PEER));
    pair.set_peers_mac(stranger);
    assert!(pair.is_stopped(OWN, PEER), "somebody who isn't the gateway");
}

fn has_two_addresses(filter: &Found, gateway_mac: Mac) {
    let pair = Pair::new("v", gateway_mac);
    assert!(
        pair.reaches(OWN_V6, PEER_V6) && pair.reaches(OTHER_V6, PEER_V6),
        "nothing stops it yet"
    );
    let gateway = ("GATEWAY_MAC", gateway_mac.to_string());
    pair.bind(&filter.name, &[("IP", OWN.to_owned()), ("IPV6", OWN_V6.to_owned()), gateway]);
    assert!(pair.reaches(OWN, PEER) && pair.reaches(OWN_V6, PEER_V6), "what is its own passes");
    assert!(pair.is_stopped(OTHER, PEER) && pair.is_stopped(OTHER_V6, PEER_V6), "other addresses");
}

fn begins_and_is_not_begun_with(filter: &Found) {
    let pair = Pair::new("b", derive_mac(&["peer"]));
    assert!(pair.is_reached(OWN), "nothing stops it yet");
    pair.bind(&filter.name, &[]);
    assert!(
        pair.reaches(OWN, PEER) && pair.reaches(OTHER, PEER),
        "its addresses are none of our business"
    );
    // iptables sees bridged packets only where the host wants it to.
    let seen = std::fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
    let held = seen.is_ok_and(|text| text.trim() == "1");
    assert!(
        if held { pair.is_spared(OWN) } else { pair.is_reached(OWN) },
        "bridged packets are seen by iptables: {held}"
    );
    pair.set_mac(derive_mac(&["stranger"]));
    assert!(pair.is_stopped(OWN, PEER), "another MAC");
}
