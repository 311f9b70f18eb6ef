//! Real guests take all of the network that they can get. They get their limits, and a neighbour
//! hardly notices.
//!
//! The test counts packets behind the rules, so that a slow host cannot pass for a limit: without
//! the limit, an equal guest does more.

use std::time::{Duration, Instant};

use agentvm_core::names::DomainName;
use agentvm_core::network::{Allow, LinkLimits, Policy, Protocol};
use agentvm_guest_agent::protocol::Nonce;
use agentvm_hypervisor::{LinkApi, MachineApi, Stop};
use agentvm_types::OwnerUid;

use crate::ground::{Machine, node_networks, policy};
use crate::libvirt_host::TOKEN;
use crate::libvirt_host::neighbour::hardly_feels;
use crate::limits::connections_of;
use crate::real::{Real, RealMachine};
use agentvm_testing::networks::internet::WEB;
use agentvm_testing::wait_until;

/// So little that a transfer takes its time by the limit, however fast the host is.
const RATE: u64 = 1 << 19;
const PACKETS: u32 = 1000;
const CONNECTIONS: u32 = 64;
/// A second of them comes at once, where nothing was used before.
const BYTES: u64 = 3 << 19;
const ROUNDS: usize = 3;
/// More than a guest can do here.
const WIDE: LinkLimits =
    LinkLimits { bytes_per_second: None, packets_per_second: 1_000_000, connections: 4096 };
/// The time for which packets are counted.
const LOOK: Duration = Duration::from_secs(3);
const SETTLE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn what_one_guest_takes_of_the_network_another_hardly_feels() {
    let real = Real::new("hogs").await;
    real.golden("true").await;
    let specs = [real.spec(0, "pool-one"), real.spec(1, "pool-two")];
    let [mut good, mut bad] = [real.machine(&specs[0]).await, real.machine(&specs[1]).await];
    for spec in &specs {
        real.hv.open_link(&spec.record.name).await.unwrap();
    }
    let ground = real.ground("");
    ground.put(&mut good, "fetch.py", include_str!("fetch.py")).await;
    ground.put(&mut bad, "hogs.py", include_str!("hogs.py")).await;
    let mut hog = Hog { real: &real, name: &specs[1].record.name, bad, good };
    let tap = &specs[1].record.nic.as_ref().unwrap().tap;
    // Packets from a machine are counted behind the rules, on their way out of the host; packets to
    // a machine on its own wire.
    let (out, to) = (real.internet.link(), tap.as_str());
    let rate = LinkLimits { bytes_per_second: Some(RATE), ..WIDE };
    hog.is_held("stream", rate, &[(&out, "tx_bytes"), (to, "tx_bytes")], RATE).await;
    let packets = LinkLimits { packets_per_second: PACKETS, ..WIDE };
    hog.is_held("flood", packets, &[(&out, "tx_packets")], PACKETS.into()).await;
    let address = specs[1].record.nic.as_ref().unwrap().address().unwrap().to_string();
    hog.holds(&address).await;
    for spec in &specs {
        real.hv.destroy(&spec.record.name, Stop::Force).await.unwrap();
    }
    assert_eq!(real.internet.escaped(), 0);
    real.hv.release().await;
}

struct Hog<'a> {
    real: &'a Real,
    name: &'a DomainName,
    bad: RealMachine,
    good: RealMachine,
}

impl Hog<'_> {
    /// The counter grows by at most `most` in a second, plus the burst. Without the limit it grows
    /// by more.
    async fn is_held(&mut self, verb: &str, limits: LinkLimits, at: &[(&str, &str)], most: u64) {
        self.apply(WIDE).await;
        let nonce = self.begin(verb).await;
        let free = grown(at).await;
        self.apply(limits).await;
        let held = grown(at).await;
        println!(
            "measured: {verb}: {at:?} grow by {free:.0?} in a second without a limit, and by \
                {held:.0?} with {most}"
        );
        #[expect(clippy::cast_precision_loss, reason = "a few millions")]
        let most = most as f64;
        // The first second uses up the burst. 5 % are for the headers of each packet.
        assert!(held.iter().all(|held| *held < most * 1.35), "{held:?}, and {most} are allowed");
        assert!(free.iter().all(|free| *free > most * 1.5), "the control: {free:?}");
        self.neighbour(verb).await;
        self.bad.0.stop(&nonce).await;
    }

    /// No more connections than it may have.
    async fn holds(&mut self, address: &str) {
        self.apply(LinkLimits { connections: CONNECTIONS, ..WIDE }).await;
        let nonce = self.begin("connect").await;
        let most = usize::try_from(CONNECTIONS).unwrap();
        wait_until("the hog to have its connections", || connections_of(address) >= most / 2);
        self.neighbour("connect").await;
        let held = connections_of(address);
        println!("measured: it holds {held} connections, and may {most}");
        // Some are over before the list is read.
        assert!(held <= most + 8, "{held} connections");
        self.apply(WIDE).await;
        wait_until("more connections where more may be: the control", || {
            connections_of(address) > 2 * most
        });
        self.bad.0.stop(&nonce).await;
    }

    async fn begin(&mut self, verb: &str) -> Nonce {
        let command = format!("exec python3 /tmp/hogs.py {verb} {WEB}:443");
        self.bad.0.begin(TOKEN, &command).await
    }

    /// The neighbour's own limit determines the time of its transfers.
    async fn apply(&self, hog: LinkLimits) {
        let good =
            Policy { limits: LinkLimits { bytes_per_second: Some(RATE), ..WIDE }, ..policy() };
        let datagrams = Allow { protocol: Protocol::Udp, ports: Vec::new(), cidrs: Vec::new() };
        let bad = Policy { limits: hog, allow: vec![datagrams], ..policy() };
        let policies = [(OwnerUid::new("pool-one"), good), (OwnerUid::new("pool-two"), bad)].into();
        self.real.hv.apply_policies(policies, node_networks()).await.unwrap();
    }

    async fn neighbour(&mut self, verb: &str) {
        let Self { real, name, good, .. } = self;
        let takes = async || {
            let mut millis = 0;
            for way in ["get", "put"] {
                let said = good.sh(&format!("python3 /tmp/fetch.py {way} {WEB}:443 {BYTES}")).await;
                millis += said.parse::<u64>().unwrap_or_else(|_| panic!("{said}"));
            }
            Duration::from_millis(millis)
        };
        hardly_feels(&format!("a guest that hogs by {verb}"), &real.hv, name, ROUNDS, takes).await;
    }
}

/// The growth of each of these interface counters in a second.
async fn grown(at: &[(&str, &str)]) -> Vec<f64> {
    let now = || at.iter().map(|(link, counter)| read(link, counter)).collect::<Vec<_>>();
    // The test waits until the burst is over and the greedy guest has started.
    tokio::time::sleep(SETTLE).await;
    let (before, began) = (now(), Instant::now());
    tokio::time::sleep(LOOK).await;
    let took = began.elapsed().as_secs_f64();
    let grown = now().into_iter().zip(before).map(|(now, before)| now - before);
    grown.map(|grown| grown / took).collect()
}

fn read(link: &str, counter: &str) -> f64 {
    let text =
        std::fs::read_to_string(format!("/sys/class/net/{link}/statistics/{counter}")).unwrap();
    text.trim().parse().unwrap()
}
