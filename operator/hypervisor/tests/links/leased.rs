//! Machines on a bridge of the host: a server on that network gives them their addresses, and
//! renews them.

use std::time::{Duration, Instant};

use agentvm_core::network::Nic;
use agentvm_guest_agent::protocol::{GuestLease, Mac};
use agentvm_hypervisor::{HvError, LinkApi, MachineApi, MachineSpec, Stop};

use crate::libvirt_host::TOKEN;
use crate::libvirt_host::guest::{Guest, now};
use crate::plugged::Plugged;
use agentvm_testing::networks::internet::DNS;
use agentvm_testing::networks::lan::{Lan, NAME, SERVER};

const SECOND: u64 = 1_000_000_000;

pub fn on(lab: &Plugged, lan: &Lan, slot: u32) -> MachineSpec {
    let mut spec = lab.spec(slot, "nonce");
    spec.record.nic = Some(Nic::bridge(&lab.host.instance, &spec.record.name, &lan.bridge));
    spec
}

fn mac(spec: &MachineSpec) -> Mac {
    spec.record.nic.as_ref().unwrap().mac
}

/// Asked `later` seconds from now.
pub fn order(spec: &MachineSpec, later: u64) -> GuestLease {
    let time_unix_nanos = now() + later * SECOND;
    GuestLease { mac: mac(spec), resolvers: vec![DNS], time_unix_nanos, patience_millis: 20_000 }
}

pub async fn woken(lab: &Plugged, spec: &MachineSpec) -> Guest {
    lab.hv.create(spec).await.unwrap();
    lab.hv.open_link(&spec.record.name).await.unwrap();
    lab.hv.resume(&spec.record.name).await.unwrap();
    Guest::open(&lab.hv, &spec.record.name, TOKEN).await
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_have_what_the_networks_server_gives_them_and_keep_it_while_they_are_parked() {
    let lab = Plugged::new("leased").await;
    lab.golden().await;
    let mut lan = Lan::new(lab.host.instance.as_str(), DNS);
    let (first, second) = (on(&lab, &lan, 0), on(&lab, &lan, 1));
    let mut guest = woken(&lab, &first).await;
    let nonce = guest.rehydrate(TOKEN).await;
    let began = Instant::now();
    let address = guest.lease(&order(&first, 0)).await.unwrap();
    lab.hv.lease_link(&first.record.name, address).await.unwrap();
    println!(
        "measured: a lease from LEASE to its acknowledgement: {} ms",
        began.elapsed().as_millis()
    );
    let script = format!(
        "ip -o -4 addr show scope global; getent ahostsv4 {NAME} | head -1;
         timeout 10 bash -c 'exec 3<>/dev/tcp/{SERVER}/53' && echo reached"
    );
    let (code, said) = guest.execute(&nonce, &script).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("inet {address}/24")) && said.contains("reached"), "{said}");
    assert!(
        said.contains(&SERVER.to_string()),
        "the resolver of its policy knows the name: {said}"
    );
    let counted = lab.hv.traffic(&first.record.name).await.unwrap();
    assert!(counted.received_bytes > 0, "{counted:?}");
    parks_and_renews(&lab, &mut lan, &second, address).await;
    for spec in [&first, &second] {
        lab.hv.destroy(&spec.record.name, Stop::Force).await.unwrap();
    }
    lab.hv.release().await;
}

/// Time goes by for it as the host says.
async fn parks_and_renews(
    lab: &Plugged,
    lan: &mut Lan,
    spec: &MachineSpec,
    taken: std::net::Ipv4Addr,
) {
    let (name, mac) = (&spec.record.name, mac(spec).to_string());
    let mut guest = woken(lab, spec).await;
    let nonce = guest.rehydrate(TOKEN).await;
    let address = guest.lease(&order(spec, 0)).await.unwrap();
    assert_ne!(address, taken);
    let why = lab.hv.lease_link(name, taken).await.unwrap_err();
    assert!(matches!(&why, HvError::NetworkUnavailable { .. }), "what it wasn't given: {why}");
    lab.hv.lease_link(name, address).await.unwrap();
    let asked = |lan: &Lan| (lan.count("DHCPDISCOVER", &mac), lan.count("DHCPACK", &mac));
    assert_eq!(asked(lan), (1, 1));
    lab.hv.pause(name).await.unwrap();
    lab.hv.resume(name).await.unwrap();
    let began = Instant::now();
    assert_eq!(guest.lease(&order(spec, 30)).await.unwrap(), address);
    println!("measured: a lease that is good, confirmed: {} us", began.elapsed().as_micros());
    assert_eq!(asked(lan), (1, 1), "less than half of two minutes is over");
    assert_eq!(
        guest.lease(&order(spec, 90)).await.unwrap(),
        address,
        "nobody waits for more of a lease that is good"
    );
    lan.until("it is renewed", |_| asked(lan) == (1, 2));
    assert_eq!(guest.lease(&order(spec, 300)).await.unwrap(), address, "over, and asked for again");
    lab.hv.lease_link(name, address).await.unwrap();
    assert_eq!(asked(lan), (2, 3));
    lan.end();
    let hurried = GuestLease { patience_millis: 1500, ..order(spec, 900) };
    let began = Instant::now();
    let why = guest.lease(&hurried).await.unwrap_err();
    assert!(
        why.contains("no DHCP server gave this machine an address within 1 s: none answered"),
        "{why}"
    );
    assert!(began.elapsed() < Duration::from_secs(30));
    let left = "ip -o -4 addr show scope global; ip route show default";
    assert_eq!(guest.execute(&nonce, left).await, (Some(0), String::new()), "what is over is gone");
}
