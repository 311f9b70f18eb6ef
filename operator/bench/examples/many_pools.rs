//! The cost of the rules of many pools: the kernel's memory for 100 pools with limits of their own,
//! and the time to change one of 64 maximal pools.
//!
//! It uses the product's own firewall, without machines. Run it as root in a network namespace of
//! its own, and leave the host alone meanwhile:
//!
//! ```text
//! cargo build --release -p agentvm-bench --example many_pools
//! unshare --net target/release/examples/many_pools
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program for people who measure: it ends where something fails"
)]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use agentvm_core::names::InstanceId;
use agentvm_core::network::{
    Allow, LinkLimits, POOL_ELEMENTS, Policy, PortRange, Protocol, Subnet,
};
use agentvm_hypervisor::Firewall;
use agentvm_types::OwnerUid;
use ipnet::IpNet;

const ROUNDS: u32 = 20;

fn main() {
    let others = std::fs::read_to_string("/proc/net/dev").unwrap();
    let devices = others.lines().filter(|line| line.contains(':')).count();
    assert!(devices == 1, "run it in a namespace of its own: unshare --net {}", program());
    Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    for (what, own) in [("the same limits", false), ("limits of their own", true)] {
        let before = kernel_kib();
        let bench = Bench::new((0..100).map(|pool| (owner(pool), plain(pool, own))).collect());
        let mib = (kernel_kib() - before) / 1024;
        println!("100 pools with {what}: {mib} MiB of kernel memory");
        drop(bench);
    }
    for pools in [8, 64] {
        let began = Instant::now();
        let bench = Bench::new((0..pools).map(|pool| (owner(pool), maximal(pool, 1))).collect());
        println!("{pools} maximal pools, all written: {:.2} s", began.elapsed().as_secs_f64());
        bench.change(pools);
    }
}

/// A firewall whose rules are gone when this is dropped.
struct Bench {
    firewall: Arc<Firewall>,
}

impl Bench {
    fn new(policies: BTreeMap<OwnerUid, Policy>) -> Self {
        let firewall = Arc::new(Firewall::new(&InstanceId::for_state_dir("/many-pools")));
        let gateway = Ipv4Addr::new(192, 168, 101, 1);
        let subnet = Subnet { bridge: "many0".into(), gateway, prefix: 24 };
        firewall.guard(&subnet).unwrap();
        let refused = firewall.enforce(&subnet, policies, &[], &[]).unwrap();
        assert!(refused.is_empty(), "{refused:?}");
        Self { firewall }
    }

    fn change(&self, pools: u32) {
        let mut took: Vec<f64> = (0..ROUNDS)
            .map(|round| {
                let pool = round % pools;
                let policy = maximal(pool, i64::from(round) + 2);
                let began = Instant::now();
                self.firewall.enforce_one(&owner(pool), Some(policy)).unwrap();
                began.elapsed().as_secs_f64() * 1000.0
            })
            .collect();
        took.sort_by(f64::total_cmp);
        println!(
            "one of {pools} maximal pools changed: median {:.0} ms, greatest {:.0} ms",
            took[took.len() / 2],
            took.last().unwrap()
        );
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.firewall.remove().unwrap();
    }
}

fn owner(pool: u32) -> OwnerUid {
    OwnerUid::new(format!("pool-{pool}"))
}

fn plain(pool: u32, own: bool) -> Policy {
    let more = if own { pool } else { 0 };
    Policy {
        generation: 1,
        ipv6: false,
        allow: Vec::new(),
        resolvers: vec![Ipv4Addr::new(203, 0, 113, 53)],
        limits: LinkLimits {
            bytes_per_second: Some(u64::from((64 << 20) + more)),
            packets_per_second: 20_000 + more,
            connections: 128 + 4 * more,
        },
    }
}

/// The number of networks and ports that a pool may name. Private ones stand in both families.
fn maximal(pool: u32, generation: i64) -> Policy {
    let half = POOL_ELEMENTS / 2;
    let (entries, each) = (half / 32, 32_u32);
    let base = u32::try_from(generation).unwrap() * 7 + pool;
    let allow = (0..entries).zip(0_u32..).map(|(_, entry)| Allow {
        protocol: Protocol::Tcp,
        ports: (0..each).map(|at| port(1000 + at * 3 + base % 100)).collect(),
        cidrs: (0..each).map(|at| private(entry * 64 + at * 2 + base)).collect(),
    });
    Policy { generation, allow: allow.collect(), ..plain(pool, true) }
}

fn port(number: u32) -> PortRange {
    let number = u16::try_from(number).unwrap();
    PortRange { first: number, last: number }
}

fn private(number: u32) -> IpNet {
    IpNet::from(std::net::IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + number * 16)))
}

/// Slab, which has large allocations too, and the area of `vmalloc`.
fn kernel_kib() -> i64 {
    let said = std::fs::read_to_string("/proc/meminfo").unwrap();
    let kib = |name: &str| -> i64 {
        let line = said.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    kib("Slab:") + kib("VmallocUsed:")
}

fn program() -> String {
    std::env::args().next().unwrap_or_default()
}
