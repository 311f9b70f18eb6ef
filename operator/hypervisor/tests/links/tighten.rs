//! A policy changes while machines run: forbidden connections end, allowed ones go on.

use agentvm_core::network::{Allow, PortRange, Protocol};
use agentvm_hypervisor::{LinkApi, MachineApi, Stop};

use crate::libvirt_host::TOKEN;
use crate::plugged::Plugged;
use agentvm_testing::networks::internet::WEB;

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_tightened_ends_what_it_forbids_and_nothing_else() {
    let lab = Plugged::new("tighten").await;
    lab.golden().await;
    let spec = lab.spec(0, "nonce");
    let name = &spec.record.name;
    lab.hv.create(&spec).await.unwrap();
    let narrow = Plugged::policies(&["pool-uid"]);
    let mut wide = narrow.clone();
    let ports = vec![PortRange { first: 8080, last: 8080 }];
    wide.get_mut("pool-uid").unwrap().allow =
        vec![Allow { protocol: Protocol::Tcp, ports, cidrs: vec![] }];
    lab.hv.apply_policies(wide, vec![]).await.unwrap();
    lab.hv.open_link(name).await.unwrap();
    lab.hv.resume(name).await.unwrap();
    let mut guest = lab.guest(&spec).await;
    let talk = |port| format!("exec 3<>/dev/tcp/{WEB}/{port}; sleep 1000 <&3");
    let both = format!(
        "(bash -c '{}' &) >/dev/null 2>&1; (bash -c '{}' &) >/dev/null 2>&1",
        talk(80),
        talk(8080)
    );
    let there = |port: &str| {
        lab.connections(&spec).lines().any(|line| line.contains(&format!("dport={port} ")))
    };
    let waiting = format!(
        "{both}; for i in $(seq 1200); do [ $(pgrep -c sleep) = 2 ] && break; sleep 0.05; done; \
            pgrep -c sleep"
    );
    let said = guest.sh(TOKEN, &waiting).await.1;
    assert!(there("80") && there("8080"), "{said} {}", lab.connections(&spec));
    let began = std::time::Instant::now();
    lab.hv.apply_policies(narrow, vec![]).await.unwrap();
    println!("measured: another policy for a machine that runs: {:?}", began.elapsed());
    assert!(there("80") && !there("8080"), "{}", lab.connections(&spec));
    lab.hv.close_link(name).await.unwrap();
    assert_eq!(lab.connections(&spec), "");
    lab.hv.destroy(name, Stop::Force).await.unwrap();
    lab.hv.release().await;
}
