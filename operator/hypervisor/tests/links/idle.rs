//! The packets that a machine sends without being asked.

use agentvm_hypervisor::{LinkApi, MachineApi, Stop};

use crate::libvirt_host::TOKEN;
use crate::plugged::Plugged;

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_run_does_nothing_says_nothing_and_is_denied_nothing() {
    let lab = Plugged::new("idle").await;
    lab.golden().await;
    let mut flows = lab.hv.flows().unwrap();
    let spec = lab.spec(0, "nonce-0");
    let name = &spec.record.name;
    lab.hv.create(&spec).await.unwrap();
    // Fresh first, then as a reset leaves it.
    for round in 1..=3 {
        lab.hv.open_link(name).await.unwrap();
        lab.hv.resume(name).await.unwrap();
        let mut guest = lab.guest(&spec).await;
        // QEMU and the driver would announce the machine for a second.
        assert_eq!(guest.sh(TOKEN, "sleep 2").await.0, Some(0));
        let counted = lab.hv.traffic(name).await.unwrap();
        assert_eq!(
            (counted.denied, counted.sent_bytes),
            (0, 0),
            "round {round}: {:?}",
            flows.try_recv()
        );
        assert_eq!(
            lab.hv.reset(&lab.spec(0, &format!("nonce-{round}"))).await.unwrap().failure(),
            None
        );
    }
    assert!(flows.try_recv().is_err());
    lab.hv.destroy(name, Stop::Force).await.unwrap();
    lab.hv.release().await;
}
