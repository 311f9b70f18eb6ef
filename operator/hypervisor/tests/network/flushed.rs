//! A process removes the rules while machines run. The machines are cut off until the rules are
//! back, and then the rules hold again.

use std::net::UdpSocket;
use std::process::Command;
use std::time::Instant;

use agentvm_core::names::DomainName;
use agentvm_core::network::Table;
use agentvm_hypervisor::{LinkApi, MachineApi, Stop};

use crate::attacks;
use crate::ground::HostServers;
use crate::libvirt_host::{TOKEN, took};
use crate::real::Real;
use agentvm_testing::{wait_until, wait_until_async};

/// Knocks at a port of the host without end.
const KNOCK: &str = "import socket, sys, time\n\
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
    while True: s.sendto(b'knock', (sys.argv[1], int(sys.argv[2]))); time.sleep(0.005)\n";
/// The largest number of knocks that may arrive before machines are cut off. This takes a moment on
/// a busy host: one of a few tries must succeed.
const MOST: u64 = 3;
const TRIES: usize = 5;

fn there(table: &Table) -> bool {
    let listed = |family| {
        Command::new("nft").args(["list", "table", family, table.name()]).output().unwrap()
    };
    ["bridge", "inet"].into_iter().all(|family| listed(family).status.success())
}

/// Waits until a machine was denied so much more.
async fn denied(real: &Real, name: &DomainName, more: u64) {
    let now = async || real.hv.traffic(name).await.unwrap().denied;
    let enough = now().await + more;
    wait_until_async("more is denied", async || now().await >= enough).await;
}

/// The number of knocks that arrive from the removal of the rules to their return. (Another test
/// checks that a machine cannot talk once it is cut off. With links open until the rules return it
/// would be a dozen.)
async fn while_gone(real: &Real, name: &DomainName, table: &Table, servers: &HostServers) -> u64 {
    let (before, began) = (servers.asked(), Instant::now());
    // Only the parts of this installation, because others use the host too.
    for family in ["inet", "bridge"] {
        assert!(
            Command::new("nft")
                .args(["delete", "table", family, table.name()])
                .status()
                .unwrap()
                .success()
        );
    }
    wait_until("the rules to be back", || there(table));
    took("rules that were removed are back", began);
    // Packets on their way have been counted by then.
    denied(real, name, 20).await;
    let heard = servers.asked();
    println!("measured: {} knocks were heard by the host meanwhile", heard - before);
    denied(real, name, 20).await;
    assert_eq!(servers.asked(), heard, "it still knocks, and nobody hears it again");
    heard - before
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_somebody_removed_are_back_at_once() {
    let real = Real::new("flushed").await;
    real.golden("true").await;
    let spec = real.spec(0, "pool-one");
    let name = &spec.record.name;
    let mut machine = real.machine(&spec).await;
    real.hv.open_link(name).await.unwrap();
    let ground = real.ground("");
    attacks::prepare(&ground, &mut machine).await;
    let servers = HostServers::new();
    let knock = format!("python3 -c \"{KNOCK}\" {} {}", real.subnet.gateway, servers.udp);
    let table = Table::of(&real.host.instance);
    let nonce = machine.0.begin(TOKEN, &knock).await;
    denied(&real, name, 20).await;
    assert_eq!(servers.asked(), 0, "it knocks, and nobody hears it");
    let mut heard = Vec::new();
    while heard.last().is_none_or(|heard| *heard > MOST) {
        assert!(
            heard.len() < TRIES,
            "{heard:?} knocks were heard: machines are not cut off while the rules are gone"
        );
        heard.push(while_gone(&real, name, &table, &servers).await);
    }
    machine.0.stop(&nonce).await;
    // The control, at last: the server was there all the time.
    let heard = servers.asked();
    UdpSocket::bind("0.0.0.0:0")
        .unwrap()
        .send_to(b"control", (real.subnet.gateway, servers.udp))
        .unwrap();
    wait_until("the server to hear the host", || servers.asked() == heard + 1);
    attacks::reaches_the_internet(&ground, &mut machine).await;
    attacks::reaches_no_host(&ground, &mut machine).await;
    real.hv.destroy(name, Stop::Force).await.unwrap();
    real.hv.release().await;
}
