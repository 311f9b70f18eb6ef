//! Marks (parked, quarantined, none), the cost of a machine, and a machine that boots because no
//! better tier works.

use std::path::PathBuf;

use agentvm_core::names::GoldenKey;
use agentvm_hypervisor::libvirt::{Libvirt, LibvirtConfig};
use agentvm_hypervisor::{
    GoldenApi, HostApi, HvError, MachineApi, MachineSpec, Mark, PowerState, Stop, Tier,
};
use agentvm_types::OwnerUid;

use crate::libvirt_host::guest::Guest;
use crate::libvirt_host::{TOKEN, TestHost};

async fn mark_and_state(hv: &Libvirt) -> (Mark, PowerState) {
    let machine = hv.list().await.unwrap().remove(0);
    (machine.mark, machine.state)
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_say_what_is_true_also_to_the_next_operator() {
    let host = TestHost::new();
    let hv = host.connect().await;
    let key = GoldenKey::derive(&["marks"]);
    host.golden(&hv, &key).await;
    let spec = host.machine(&key, 0, "nonce");
    let name = &spec.record.name;
    hv.create(&spec).await.unwrap();
    hv.resume(name).await.unwrap();
    let mut guest = Guest::open(&hv, name, TOKEN).await;
    assert_eq!(mark_and_state(&hv).await, (Mark::None, PowerState::Running));
    hv.park(name, "evidence").await.unwrap();
    let parked = (Mark::Parked { evidence: "evidence".to_owned() }, PowerState::Paused);
    assert_eq!(mark_and_state(&host.connect().await).await, parked);
    let cost = hv.usage(name).await.unwrap();
    println!("measured: a parked machine of 512 MiB: {cost:?}");
    assert!(
        cost.unshared_bytes > 8 << 20
            && cost.unshared_bytes < 200 << 20
            && cost.resident_bytes > cost.unshared_bytes
    );
    hv.resume(name).await.unwrap();
    assert_eq!(mark_and_state(&hv).await, (Mark::None, PowerState::Running));
    assert_eq!(guest.sh(TOKEN, "echo same session").await.1, "same session");
    quarantine(&host, &hv, &spec).await;
    tiers_without_the_library(&host, &key).await;
    what_a_killed_self_test_leaves_is_swept(&host, &hv, &key).await;
    a_machine_may_boot(&host, &hv, &key).await;
    hv.release().await;
}

async fn quarantine(host: &TestHost, hv: &Libvirt, spec: &MachineSpec) {
    let name = &spec.record.name;
    hv.park(name, "evidence").await.unwrap();
    hv.quarantine(name, 7, "it lied").await.unwrap();
    let kept = (Mark::Quarantined { until: 7, why: "it lied".to_owned() }, PowerState::Paused);
    assert_eq!(mark_and_state(&host.connect().await).await, kept);
    for refused in [hv.resume(name).await, hv.park(name, "").await, hv.reset(spec).await.map(drop)]
    {
        assert!(
            matches!(&refused, Err(HvError::Refused { detail,
                .. }) if detail.contains("quarantined")),
            "{refused:?}"
        );
    }
    assert_eq!(
        host.connect().await.sweep().await.unwrap(),
        Vec::<String>::new(),
        "it stays until somebody ends it"
    );
    hv.destroy(name, Stop::Force).await.unwrap();
    assert!(matches!(hv.park(name, "").await, Err(HvError::NoSuchMachine(_))));
    assert!(matches!(hv.quarantine(name, 0, "").await, Err(HvError::NoSuchMachine(_))));
}

/// Nothing, or something that isn't a library: not offered, with a reason.
async fn tiers_without_the_library(host: &TestHost, key: &GoldenKey) {
    for (preload, why) in
        [(None, "AGENTVM_PRELOAD"), (Some(PathBuf::from("/bin/true")), "preloaded library")]
    {
        let hv = Libvirt::connect(LibvirtConfig { preload, ..host.config() }).await.unwrap();
        let tiers = hv.tiers(key).await.unwrap();
        println!("{tiers:?}");
        assert_eq!(tiers.tier, Tier::Fresh);
        assert!(
            tiers.why_not_better.starts_with("InPlace: ") && tiers.why_not_better.contains(why),
            "{tiers:?}"
        );
        assert_eq!(host.domains(), Vec::<String>::new());
    }
}

async fn what_a_killed_self_test_leaves_is_swept(host: &TestHost, hv: &Libvirt, key: &GoldenKey) {
    let mut left = host.machine(key, 2, "nonce");
    left.record.owner_uid = OwnerUid::new("self-test");
    hv.create(&left).await.unwrap();
    let next = host.connect().await;
    assert_eq!(next.list().await.unwrap(), [], "it is nobody's");
    let swept = next.sweep().await.unwrap();
    assert!(swept.contains(&format!("self-test's machine {}", left.record.name)), "{swept:?}");
    assert_eq!((host.domains(), host.mounts()), (vec![], vec![]));
}

async fn a_machine_may_boot(host: &TestHost, hv: &Libvirt, key: &GoldenKey) {
    let spec = MachineSpec { tier: Tier::Boot, ..host.machine(key, 1, "nonce") };
    let name = &spec.record.name;
    hv.create(&spec).await.unwrap();
    assert_eq!(hv.state(name).await.unwrap(), PowerState::Paused);
    hv.resume(name).await.unwrap();
    let mut guest = Guest::open(hv, name, TOKEN).await;
    assert_eq!(guest.sh(TOKEN, "cat /etc/golden").await, (Some(0), "setup".to_owned()));
    assert!(hv.usage(name).await.unwrap().unshared_bytes > 64 << 20);
    let refused = hv.reset(&spec).await.unwrap_err().to_string();
    assert!(refused.contains("without the preloaded library"), "{refused}");
    hv.destroy(name, Stop::Force).await.unwrap();
}
