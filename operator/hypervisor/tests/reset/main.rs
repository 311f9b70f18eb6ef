//! Resets in place of real machines: the state after a reset, its proof, and the ways in which the
//! proof fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says by panicking what is wrong"
)]

mod busy;
mod faults;
mod full;
mod inspection;
#[path = "../libvirt_host/mod.rs"]
mod libvirt_host;
mod marks;
mod memory;
mod private;
mod sabotage;
mod stuck;

use agentvm_core::names::GoldenKey;
use agentvm_hypervisor::{GoldenApi, MachineApi, Mark, PowerState, Stop, Tier};
use libvirt_host::guest::Guest;
use libvirt_host::{TOKEN, TestHost};
use memory::own_and_different;

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_machine_is_the_golden_again() {
    let host = TestHost::new();
    let hv = host.connect().await;
    let key = GoldenKey::derive(&["reset"]);
    host.golden(&hv, &key).await;
    let memory = host.dir.path().join("golden").join(key.as_str()).join("memory");
    let tiers = hv.tiers(&key).await.unwrap();
    assert_eq!((tiers.tier, tiers.why_not_better.as_str()), (Tier::InPlace, ""));
    assert_eq!((host.domains(), host.mounts()), (vec![], vec![]), "the self-test leaves nothing");
    let first = host.machine(&key, 0, "nonce-1");
    let name = &first.record.name;
    hv.create(&first).await.unwrap();
    hv.resume(name).await.unwrap();
    for n in 2..6 {
        let mut guest = Guest::open(&hv, name, TOKEN).await;
        let traces = "ls /etc/mine /workspace/output/* 2>/dev/null; pgrep sleep; cat /etc/golden";
        assert_eq!(
            guest.sh(TOKEN, traces).await,
            (Some(0), "setup".to_owned()),
            "nothing of a run before"
        );
        let leave = "echo 1 > /etc/mine; echo 1 > /workspace/output/mine; (sleep 1000 &); sync; \
            cat /etc/mine";
        assert_eq!(guest.sh(TOKEN, leave).await, (Some(0), "1".to_owned()));
        assert!(!own_and_different(name, &memory).1.is_empty());
        let next = host.machine(&key, 0, &format!("nonce-{n}"));
        let proof = hv.reset(&next).await.unwrap();
        println!("measured: reset {:?} {:?}", proof.took(), proof.steps);
        assert_eq!(proof.failure(), None);
        assert_eq!(
            own_and_different(name, &memory),
            (vec![], vec![]),
            "every page is the golden's"
        );
        let seen = &hv.list().await.unwrap()[0];
        assert_eq!(
            (&seen.record, &seen.state, &seen.mark),
            (&next.record, &PowerState::Paused, &Mark::None)
        );
        hv.resume(name).await.unwrap();
    }
    hv.destroy(name, Stop::Force).await.unwrap();
    assert_eq!((host.domains(), host.mounts()), (vec![], vec![]));
    hv.release().await;
}
