//! The agent's inspection of its machine is equal at capture, in a new machine and after a reset.
//! It differs as soon as a program runs.

use agentvm_core::names::GoldenKey;
use agentvm_guest_agent::protocol::Inspection;
use agentvm_hypervisor::{MachineApi, Stop};

use crate::libvirt_host::guest::Guest;
use crate::libvirt_host::{TOKEN, TestHost};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_sees_the_golden_again_and_nothing_else() {
    let host = TestHost::new();
    let hv = host.connect().await;
    let key = GoldenKey::derive(&["inspection"]);
    let golden: Inspection = serde_json::from_str(&host.golden(&hv, &key).await.guest).unwrap();
    assert!(golden.golden.is_some());
    assert_eq!(golden.processes, ["init<"], "the agent is all there is");
    let first = host.machine(&key, 0, "nonce-1");
    let name = &first.record.name;
    hv.create(&first).await.unwrap();
    hv.resume(name).await.unwrap();
    for n in 2..5 {
        let (mut guest, seen) = Guest::inspect(&hv, name, TOKEN).await;
        assert_eq!(seen, golden, "before anything was done to it");
        let nonce = guest
            .begin(
                TOKEN,
                "sleep 1000 & sleep 1000 & until [ $(pgrep -c sleep) = 2 ]; do :; done; \
                echo here; wait",
            )
            .await;
        let mut said = Vec::new();
        while said != b"here\n" {
            assert_eq!(guest.hear(&nonce, &mut said).await, None, "it goes on");
        }
        drop(guest);
        let (_, used) = Guest::inspect(&hv, name, TOKEN).await;
        let new = |used: &[String], golden: &[String]| {
            used.iter().filter(|entry| !golden.contains(entry)).cloned().collect::<Vec<_>>()
        };
        let processes = new(&used.processes, &golden.processes);
        assert_eq!(
            processes.iter().filter(|process| process.starts_with("sleep<sh")).count(),
            2,
            "{processes:?}"
        );
        let mounts = new(&used.mounts, &golden.mounts);
        assert!(mounts.iter().any(|mount| mount == "/workspace/output 9p agentvm"), "{mounts:?}");
        hv.reset(&host.machine(&key, 0, &format!("nonce-{n}"))).await.unwrap();
        hv.resume(name).await.unwrap();
    }
    hv.destroy(name, Stop::Force).await.unwrap();
    hv.release().await;
}
