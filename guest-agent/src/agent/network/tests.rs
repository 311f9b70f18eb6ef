//! Orders of a network, checked; `host` carries them out on an interface of the kernel.

use std::net::Ipv4Addr;

use agentvm_guest_agent::protocol::{GuestIpv6, GuestNetwork, Mac};

use super::*;

mod host;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const GATEWAY_MAC: &str = "52:54:00:00:00:01";

fn order(last: u8) -> GuestNetwork {
    GuestNetwork {
        mac: Mac::new([0x52, 0x54, 0, 0, 1, last]),
        address: Ipv4Addr::new(203, 0, 113, last),
        prefix: 24,
        gateway: GATEWAY,
        gateway_mac: GATEWAY_MAC.parse().unwrap(),
        resolvers: vec![],
        ipv6: None,
    }
}

#[test]
fn orders_that_cannot_work_are_refused_with_the_reason() {
    let fails = |change: fn(&mut GuestNetwork), with: &str| {
        let mut order = order(7);
        change(&mut order);
        let why = check(&order).unwrap_err().to_string();
        assert!(why.contains(with), "{why}");
    };
    assert!(check(&order(7)).is_ok());
    fails(|order| order.prefix = 0, "prefix");
    fails(|order| order.prefix = 33, "prefix");
    fails(|order| order.gateway = Ipv4Addr::new(203, 0, 114, 1), "another network");
    fails(|order| order.address = order.gateway, "own gateway");
    let six = GuestIpv6 {
        address: "fd12::7".parse().unwrap(),
        prefix: 64,
        gateway: "fd12::1".parse().unwrap(),
    };
    let of =
        |ipv6| check(&GuestNetwork { ipv6: Some(ipv6), ..order(7) }).map_err(|why| why.to_string());
    assert_eq!(of(six), Ok(()));
    assert!(of(GuestIpv6 { prefix: 127, ..six }).unwrap_err().contains("prefix"));
    assert!(
        of(GuestIpv6 { gateway: "fd13::1".parse().unwrap(), ..six })
            .unwrap_err()
            .contains("another network")
    );
}

#[test]
fn resolvers_become_lines() {
    assert!(resolv_conf(&[]).len() < resolv_conf(&[Ipv4Addr::new(1, 1, 1, 1)]).len());
    assert_eq!(
        resolv_conf(&[GATEWAY, Ipv4Addr::LOCALHOST]),
        "nameserver 203.0.113.1\nnameserver 127.0.0.1\n"
    );
}
