//! Somebody removes the rules while machines run: machines are cut off until the rules are back, and are held by them again.

use std::net::UdpSocket;
use std::process::Command;
use std::time::Instant;

use agentvm_core::network::Table;
use agentvm_hypervisor::{Hypervisor, Stop};

use crate::attacks;
use crate::ground::{HostServers, Machine, wait_for};
use crate::libvirt_host::took;
use crate::real::Real;

/// Knocks at a port of the host without end.
const KNOCK: &str = "import socket, sys, time\n\
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); end = time.monotonic() + 8\n\
    while time.monotonic() < end: s.sendto(b'knock', (sys.argv[1], int(sys.argv[2]))); time.sleep(0.005)\n";

fn there(table: &Table) -> bool {
    let listed = |family| Command::new("nft").args(["list", "table", family, table.name()]).output().unwrap();
    ["bridge", "inet"].into_iter().all(|family| listed(family).status.success())
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
    let removed = async {
        while real.hv.traffic(name).await.unwrap().denied < 20 {}
        assert_eq!(servers.asked(), 0, "it knocks, and nobody hears it");
        let began = Instant::now();
        // Only what is this installation's: others use the host too.
        for family in ["inet", "bridge"] {
            assert!(Command::new("nft").args(["delete", "table", family, table.name()]).status().unwrap().success());
        }
        wait_for("the rules to be back", || there(&table));
        took("rules that were removed are back", began);
        let while_gone = servers.asked();
        println!("measured: {while_gone} knocks were heard by the host meanwhile");
        // Machines are cut off at the first sign (that nobody talks after that is tested where the rules are made), which on a busy host
        // takes a moment. Until the rules were back it would be a dozen.
        assert!(while_gone <= 3, "{while_gone} knocks were heard: machines are not cut off while the rules are gone");
        let before = real.hv.traffic(name).await.unwrap().denied;
        while real.hv.traffic(name).await.unwrap().denied < before + 20 {}
        assert_eq!(servers.asked(), while_gone, "it still knocks, and nobody hears it again");
    };
    tokio::join!(machine.sh(&knock), removed);
    // The control, at last: the server was there all the time.
    let heard = servers.asked();
    UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"control", (real.subnet.gateway, servers.udp)).unwrap();
    wait_for("the server to hear the host", || servers.asked() == heard + 1);
    attacks::reaches_the_internet(&ground, &mut machine).await;
    attacks::reaches_no_host(&ground, &mut machine).await;
    real.hv.destroy(name, Stop::Force).await.unwrap();
    real.hv.release().await;
}
