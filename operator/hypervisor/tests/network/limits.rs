//! A greedy machine hardly affects another one: the rules limit the bandwidth and the connections
//! of each.

use std::process::{Child, Command, Stdio};

use agentvm_core::network::{Allow, LinkLimits, Protocol};

use crate::ground::{Machine, TURN};
use crate::lab::{Lab, Namespace, nft};
use agentvm_testing::networks::internet::WEB;

const RATE: u64 = 1 << 20;
/// The kernel lets a link that was quiet use a second of its rate and this burst at once.
const BURST: u64 = 256 << 10;
const BYTES: u64 = 3 << 20;
const CONNECTIONS: u32 = 64;

/// Milliseconds that a transfer takes, the median of three.
async fn takes(machine: &mut impl Machine, verb: &str) -> u64 {
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(
            machine
                .sh(&format!("python3 /tmp/fetch.py {verb} {WEB}:443 {BYTES}"))
                .await
                .parse::<u64>()
                .unwrap(),
        );
    }
    all.sort_unstable();
    all[1]
}

/// In another machine's namespace, until the value ends.
struct Hog(Child);

impl Hog {
    fn new(machine: &Namespace) -> Self {
        let mut hog = machine.command(&format!("exec python3 /tmp/fetch.py hog {WEB}:443"));
        Self(hog.stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Finished connections stay in the kernel's list for a while, but do not count any more.
pub fn connections_of(address: &str) -> usize {
    let output =
        Command::new("conntrack").args(["-L", "-p", "tcp", "-s", address]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .filter(|line| {
            !["TIME_WAIT", "CLOSE"].iter().any(|over| line.contains(&format!(" {over} ")))
        })
        .count()
}

#[tokio::test]
async fn a_hog_takes_no_more_than_its_own() {
    let _turn = TURN.lock().await;
    let mut lab = Lab::new();
    let limits = LinkLimits {
        bytes_per_second: Some(RATE),
        packets_per_second: 5000,
        connections: CONNECTIONS,
    };
    for policy in lab.policies.values_mut() {
        // Datagrams too, so that the hog has something to flood with.
        policy.allow.push(Allow { protocol: Protocol::Udp, ports: Vec::new(), cidrs: Vec::new() });
    }
    lab.connect();
    let (ground, mut machine) = (lab.ground(), lab.machine(0));
    ground.put(&mut machine, "fetch.py", include_str!("fetch.py")).await;
    let unlimited = takes(&mut machine, "get").await;
    for policy in lab.policies.values_mut() {
        policy.limits = limits;
    }
    nft(&lab.rules_kept());
    let alone = [takes(&mut machine, "get").await, takes(&mut machine, "put").await];
    // Unused bandwidth may be used later. Without retransmissions nothing else adds to the time.
    let least = (BYTES - RATE - BURST) * 1000 / RATE;
    println!(
        "measured: {BYTES} bytes: {unlimited} ms without a limit; with one, in and out: {alone:?} \
            ms"
    );
    assert!(
        unlimited < least / 2 && alone.iter().all(|took| *took > least),
        "{unlimited} {alone:?}, limit {least}"
    );

    let neighbour = lab.links[1].nic.address().unwrap().to_string();
    let hog = Hog::new(&lab.machine(1));
    // Its own datagrams are in the way of its connections.
    agentvm_testing::wait_until("the hog to be well under way", || {
        connections_of(&neighbour) >= CONNECTIONS as usize / 2
    });
    let beside = [takes(&mut machine, "get").await, takes(&mut machine, "put").await];
    let held = connections_of(&neighbour);
    drop(hog);
    println!("measured: beside a hog, in and out: {beside:?} ms; it held {held} connections");
    // Some are over before the list is read.
    assert!(held <= CONNECTIONS as usize + 8, "{held} connections");
    for (alone, beside) in alone.iter().zip(beside) {
        assert!(beside * 4 <= alone * 5, "{alone} ms alone, {beside} ms beside a hog");
    }
}
