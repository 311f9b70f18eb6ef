//! A place to measure in, for all tests of this bench; and the bench's messages.

use std::net::Ipv4Addr;

use agentvm_core::defaults::Defaults;
use agentvm_core::names::{DomainName, GoldenKey, InstanceId};
use agentvm_core::network::{Nic, Subnet};
use agentvm_hypervisor::MachineKind;
use agentvm_types::{Nonce, OwnerUid, PoolUid, Token};
use clap::Parser;

use super::*;
use crate::args::BenchArgs;
use crate::report::Unit;

/// Like on a host without configuration.
pub fn example(instance: &str) -> Ground {
    let defaults = Defaults::default();
    let instance = InstanceId::for_state_dir(instance);
    let subnet =
        Subnet { bridge: "lab0".to_owned(), gateway: Ipv4Addr::new(192, 168, 101, 1), prefix: 24 };
    let address = subnet.machines().next().unwrap();
    let record = MachineRecord {
        name: DomainName::for_slot(&instance, &PoolUid::new("bench"), 0),
        kind: MachineKind::Pool,
        namespace: "bench".to_owned(),
        owner: "bench".to_owned(),
        owner_uid: OwnerUid::new("bench"),
        slot: 0,
        golden: GoldenKey::derive(&["bench"]),
        nonce: Nonce::from_bytes([0; 16]),
        token: Token::default(),
        created: 0,
        nic: Some(Nic::nat(&instance, &subnet, address)),
        instance,
    };
    let policy = policy(None, None, 0, &defaults, Profile::Standard).unwrap();
    Ground { subnet, policy, deny_list: Vec::new(), record }
}

/// The flags, in a program.
#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    args: BenchArgs,
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn machines_without_a_network_are_refused_before_anything_is_made() {
    let refused = |arguments: &[&str]| {
        let cli = CommandLine::try_parse_from([&["bench", "network"], arguments].concat()).unwrap();
        refuse(cli.args.which.common()).map_err(|why| why.to_string())
    };
    let why = refused(&["--network", "isolated"]).unwrap_err();
    assert!(why.contains("leave out --network"), "{why}");
    assert_eq!(refused(&["-n", "1"]), Ok(()), "all required programs are here");
}

#[test]
fn the_target_is_judged_by_the_median() {
    let mut report = Report::new("network", serde_json::Map::new());
    assert_eq!(verdict(&report), None);
    for took in [3.0, 4.0, 40.0] {
        report.add("open@64", Unit::Millis, took);
    }
    assert!(verdict(&report).unwrap().contains("met (4.0 ms)"));
    report.add("open@64", Unit::Millis, 40.0);
    assert!(verdict(&report).unwrap().contains("missed (22.0 ms)"));
}
