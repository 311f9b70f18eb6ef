//! The rate at which a machine may begin connections. Finished connections remain in the host's
//! table, which all machines share.

use std::process::Command;

use agentvm_core::network::LinkLimits;

use crate::ground::{Machine, TURN};
use crate::lab::Lab;
use agentvm_testing::networks::internet::WEB;

const CONNECTIONS: u32 = 64;
/// The limits that `rules/limits.rs` derives from this number of connections: in a second, and at
/// once.
const RATE: f64 = 16.0;
const BURST: f64 = 32.0;
/// More than may be begun, and no more than one machine may have.
const TRIED: u32 = 64;

#[tokio::test]
async fn connections_are_begun_at_a_rate() {
    let _turn = TURN.lock().await;
    let mut lab = Lab::new();
    for policy in lab.policies.values_mut() {
        policy.limits = LinkLimits {
            bytes_per_second: None,
            packets_per_second: 5000,
            connections: CONNECTIONS,
        };
    }
    lab.connect();
    let mut machine = lab.machine(0);
    // The first packet of each connection, without a repetition: a dropped packet would be sent
    // again after a second. The program reports its own time, because starting it takes long on a
    // busy host.
    let burst = format!(
        "import socket,time
began = time.monotonic()
held = [socket.socket() for _ in range({TRIED})]
for each in held: each.setblocking(False); each.connect_ex(('{WEB}', 443))
print(time.monotonic() - began)"
    );
    let said = machine.sh(&format!("python3 -c \"{burst}\"")).await;
    let took: f64 = said.parse().unwrap_or_else(|_| panic!("{said}"));
    let address = lab.links[0].nic.address().unwrap().to_string();
    let output =
        Command::new("conntrack").args(["-L", "-p", "tcp", "-s", &address]).output().unwrap();
    let entries = String::from_utf8_lossy(&output.stdout).lines().count();
    println!("measured: {entries} of {TRIED} connections begun within {took:.2} s");
    let most = BURST + RATE * took + 2.0;
    assert!(most < f64::from(TRIED), "too slow to tell: {took} s");
    #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
    let entries = entries as f64;
    assert!((BURST - 2.0..=most).contains(&entries), "{entries} begun, {most} at most");
}
