//! IP addresses of the host's devices.

use std::io;
use std::net::Ipv6Addr;

use ipnet::IpNet;
use netlink_packet_core::{Emitable, NlasIterator, Parseable};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeader, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::route::{dump, put};

/// The addresses of all devices. Addresses that are valid only within the host, as those of the
/// loopback are, are left out.
pub fn all() -> io::Result<Vec<IpNet>> {
    let all = dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
    Ok(all.iter().filter_map(|body| address(body)).collect())
}

/// Gives a device an IPv6 address. The kernel doesn't look whether another host has it.
pub fn add(device: u32, address: Ipv6Addr, prefix_len: u8) -> io::Result<()> {
    let mut message = AddressMessage::default();
    message.header = AddressHeader {
        family: AddressFamily::Inet6,
        prefix_len,
        flags: AddressHeaderFlags::Nodad,
        index: device,
        ..AddressHeader::default()
    };
    message.attributes.push(AddressAttribute::Local(address.into()));
    message.attributes.push(AddressAttribute::Address(address.into()));
    put(RouteNetlinkMessage::NewAddress(message))
}

/// On a point-to-point device, `Local` is the host's end and `Address` is the other end. Other
/// devices have one of the two, or the same address in both.
fn address(body: &[u8]) -> Option<IpNet> {
    let header = AddressHeader::parse(body).ok()?;
    if header.scope == AddressScope::Host {
        return None;
    }
    let mut found = None;
    let attributes = NlasIterator::new(body.get(header.buffer_len()..)?).map_while(Result::ok);
    for attribute in attributes {
        match AddressAttribute::parse(&attribute) {
            Ok(AddressAttribute::Local(local)) => return Some(local.into()),
            Ok(AddressAttribute::Address(address)) => found = Some(address.into()),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use netlink_packet_core::Nla;

    use super::*;
    use crate::firewall::netlink::raw::attribute;

    const WITHIN_HOST: u8 = 254;

    fn message(scope: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let head = [2, 24, 0, scope, 7, 0, 0, 0].to_vec();
        attributes.iter().fold(head, |body, (kind, value)| [body, attribute(*kind, value)].concat())
    }

    #[test]
    fn an_address_is_the_host_s_end_and_the_loopback_s_is_none() {
        let own = |scope, attributes: &[(u16, &[u8])]| {
            address(&message(scope, attributes)).map(|address| address.to_string())
        };
        let any = IpAddr::from([0; 4]);
        let kinds = [AddressAttribute::Local(any), AddressAttribute::Address(any)];
        let [local, address_of] = kinds.map(|attribute| attribute.kind());
        let (near, far) = ((local, &[10, 0, 0, 1][..]), (address_of, &[10, 0, 0, 2][..]));
        assert_eq!(own(0, &[far, near]).as_deref(), Some("10.0.0.1/32"));
        let six = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
        assert_eq!(own(0, &[(address_of, &six)]).as_deref(), Some("2001:db8::7/128"));
        assert_eq!(own(WITHIN_HOST, &[near]), None);
        assert_eq!(
            (own(0, &[]), own(0, &[(local, &[1, 2, 3])]), address(&[2, 24])),
            (None, None, None)
        );
    }
}
