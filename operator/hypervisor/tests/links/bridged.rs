//! A machine that is plugged into a bridge of the host: the same golden, another socket.

use std::process::Command;

use agentvm_core::network::{Nic, Table};
use agentvm_hypervisor::{LinkApi, MachineApi, Stop};

use crate::libvirt_host::TOKEN;
use crate::libvirt_host::guest::Guest;
use crate::plugged::{Plugged, is_up};

/// The bridge has no other members.
struct Bridge(String);

impl Bridge {
    fn new(name: String) -> Self {
        assert!(
            Command::new("ip")
                .args(["link", "add", &name, "type", "bridge"])
                .status()
                .unwrap()
                .success()
        );
        Self(name)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "delete", &self.0]).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_on_a_bridge_of_the_host_is_opened_closed_and_reset_like_others() {
    let lab = Plugged::new("bridged").await;
    lab.golden().await;
    let bridge = Bridge::new(format!("avmtb{:x}", std::process::id()));
    let spec = |nonce: &str| {
        let mut spec = lab.spec(0, nonce);
        spec.record.nic = Some(Nic::bridge(&lab.host.instance, &spec.record.name, &bridge.0));
        spec
    };
    let first = spec("nonce-0");
    let (name, nic) = (&first.record.name, first.record.nic.clone().unwrap());
    lab.hv.create(&first).await.unwrap();
    let master = std::fs::read_link(format!("/sys/class/net/{}/master", nic.tap)).unwrap();
    assert!(master.ends_with(&bridge.0) && !is_up(&nic.tap), "{}", master.display());
    let is_in_rules = || {
        let table = Table::of(&lab.host.instance);
        let output = Command::new("nft")
            .args(["list", "set", "bridge", table.name(), "stations"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).contains(&nic.mac.to_string())
    };
    lab.hv.open_link(name).await.unwrap();
    assert!(is_up(&nic.tap) && is_in_rules());
    lab.hv.resume(name).await.unwrap();
    let mut guest = Guest::open(&lab.hv, name, TOKEN).await;
    assert_eq!(
        guest.sh(TOKEN, "echo 1 > /etc/mine; cat /etc/mine").await,
        (Some(0), "1".to_owned())
    );
    let proof = lab.hv.reset(&spec("nonce-1")).await.unwrap();
    assert_eq!(proof.failure(), None);
    assert!(!is_up(&nic.tap));
    assert!(
        lab.hv
            .reset(&lab.spec(0, "nonce-2"))
            .await
            .unwrap_err()
            .to_string()
            .contains("network device")
    );
    lab.hv.destroy(name, Stop::Force).await.unwrap();
    assert!(!is_in_rules());
    lab.hv.release().await;
}
