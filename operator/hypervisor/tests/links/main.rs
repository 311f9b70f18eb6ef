//! Machines with a network device come back from a run like any other, and no machine is connected
//! that should not be.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says by panicking what is wrong"
)]

mod bridged;
mod filtered;
mod idle;
#[allow(unused_imports, reason = "these tests look at no packets")]
mod leased;
#[allow(dead_code, reason = "these goldens have a network device")]
#[path = "../libvirt_host/mod.rs"]
mod libvirt_host;
#[path = "../reset/memory.rs"]
mod memory;
mod pair;
mod plugged;
#[path = "../reset/private.rs"]
mod private;
mod restarts;
mod tighten;

use std::time::Duration;

use agentvm_core::golden::DeviceLayout;
use agentvm_hypervisor::{
    GoldenApi, HvError, LinkApi, MachineApi, MachineSpec, Stop, Tier, Traffic,
};
use libvirt_host::TOKEN;
use memory::own_and_different;
use plugged::{Plugged, is_up, reach, tap};

const ROUNDS: u32 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_a_network_is_the_golden_again_every_time() {
    let lab = Plugged::new("links").await;
    assert_eq!(lab.golden().await.layout, DeviceLayout::Nic);
    let tiers = lab.hv.tiers(&lab.key).await.unwrap();
    assert_eq!((tiers.tier, tiers.why_not_better.as_str()), (Tier::InPlace, ""));
    let memory = lab.host.dir.path().join("golden").join(lab.key.as_str()).join("memory");
    let first = lab.spec(0, "nonce-0");
    let (name, tap) = (&first.record.name, tap(&first));
    refuses_another_layout(&lab, &first).await;
    lab.hv.create(&first).await.unwrap();
    assert!(!is_up(&tap), "libvirt set it up, and it is down before anything runs");
    let mut took = Vec::new();
    for round in 1..=ROUNDS {
        lab.hv.open_link(name).await.unwrap();
        assert_eq!(lab.connections(&first), "", "nothing is left of those before");
        lab.hv.resume(name).await.unwrap();
        assert!(is_up(&tap));
        let mut guest = lab.guest(&first).await;
        let traces = format!("ls /etc/mine 2>/dev/null; {}", reach());
        assert_eq!(
            guest.sh(TOKEN, &traces).await,
            (Some(0), "reached".to_owned()),
            "round {round}"
        );
        let busy = format!("while :; do echo x > /dev/udp/{}/9; done", lab.subnet.gateway);
        let leave = format!("echo 1 > /etc/mine; (bash -c '{busy}' > /dev/null 2>&1 &)");
        assert_eq!(guest.sh(TOKEN, &leave).await.0, Some(0));
        assert!(!own_and_different(name, &memory).1.is_empty());
        let counted = lab.hv.traffic(name).await.unwrap();
        assert!(
            counted.allowed == 1 && counted.sent_bytes > 0 && counted.received_bytes > 0,
            "{counted:?}"
        );
        let proof = lab.hv.reset(&lab.spec(0, &format!("nonce-{round}"))).await.unwrap();
        took.push(proof.took());
        assert_eq!(proof.failure(), None);
        assert!(!is_up(&tap), "a reset closes the link");
        assert_eq!(
            own_and_different(name, &memory),
            (vec![], vec![]),
            "every page is the golden's"
        );
    }
    took.sort();
    println!(
        "measured: reset with a network device, link open before: median {:?}, worst {:?}",
        took[10], took[19]
    );
    lab.hv.destroy(name, Stop::Force).await.unwrap();
    assert!(!lab.is_in_rules(&tap));
    assert!(matches!(lab.hv.open_link(name).await, Err(HvError::NoSuchMachine(_))));
    lab.hv.close_link(name).await.unwrap();
    assert_eq!(lab.internet.escaped(), 0);
    lab.hv.release().await;
    assert_eq!(
        (lab.host.networks(), lab.host.domains(), lab.host.mounts()),
        (vec![], vec![], vec![])
    );
}

/// A state is never loaded into other devices.
async fn refuses_another_layout(lab: &Plugged, spec: &MachineSpec) {
    let mut without = spec.clone();
    without.record.nic = None;
    let why = lab.hv.create(&without).await.unwrap_err();
    assert!(
        matches!(&why, HvError::Refused { detail, .. } if detail.contains("network device")),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ends_and_who_may_not_is_not_connected() {
    let mut lab = Plugged::new("ends").await;
    lab.golden().await;
    let spec = lab.spec(0, "nonce");
    let (name, tap) = (&spec.record.name, tap(&spec));
    lab.hv.create(&spec).await.unwrap();
    assert_eq!(lab.hv.traffic(name).await.unwrap(), Traffic::default());
    lab.hv.apply_policies(Plugged::policies(&["another"]), vec![]).await.unwrap();
    let why = lab.hv.open_link(name).await.unwrap_err();
    assert!(matches!(why, HvError::NetworkUnavailable { .. }) && !is_up(&tap), "{why}");
    lab.hv.apply_policies(Plugged::policies(&["pool-uid"]), vec![]).await.unwrap();
    lab.hv.open_link(name).await.unwrap();
    assert!(is_up(&tap) && lab.is_in_rules(&tap));
    // The process before has ended: two at once would put back each other's rules.
    lab.hv = lab.host.connect().await;
    lab.hv.apply_policies(Plugged::policies(&["pool-uid"]), vec![]).await.unwrap();
    assert!(
        is_up(&tap) && lab.is_in_rules(&tap),
        "another process of the same installation takes it over"
    );
    lab.hv.quarantine(name, 0, "a test").await.unwrap();
    lab.hv.close_link(name).await.unwrap();
    let why = lab.hv.open_link(name).await.unwrap_err();
    assert!(
        matches!(&why, HvError::NetworkUnavailable { detail,
            .. } if detail.contains("quarantined")),
        "{why}"
    );
    let mut plugged = lab.spec(1, "nonce");
    plugged.record.nic = Some(agentvm_core::network::Nic::bridge(
        &lab.host.instance,
        &plugged.record.name,
        "avmnobr",
    ));
    let why = lab.hv.create(&plugged).await.unwrap_err();
    assert!(
        matches!(&why, HvError::NetworkUnavailable { detail,
            .. } if detail.contains("no bridge avmnobr")),
        "{why}"
    );
    lab.hv.destroy(name, Stop::Force).await.unwrap();
    assert_eq!(lab.hv.subnet().await.unwrap(), lab.subnet);
    lab.hv.release().await;
    assert_eq!((lab.host.networks(), lab.host.domains()), (vec![], vec![]));
    tokio::time::timeout(Duration::from_secs(30), lab.hv.subnet()).await.unwrap().unwrap();
    assert_eq!(lab.host.networks().len(), 1, "it is made again when somebody needs it");
}
