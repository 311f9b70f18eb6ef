//! The kernel's records of a machine's connections, and the connections among them that a changed
//! policy forbids.
//!
//! The rules judge every packet of a machine, so no forbidden connection goes on. But packets that
//! the other side still sends would come in as answers. So forbidden connections are forgotten, and
//! allowed ones are left alone.

use std::net::IpAddr;

use agentvm_core::network::rules::{Connection, lets_through};
use agentvm_core::network::{Link, Policy, Protocol};
use ipnet::IpNet;

use super::nft::conntrack;
use crate::HvError;

/// One that a machine has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Begun {
    connection: Connection,
    /// The source port of TCP and UDP.
    from_port: u16,
}

/// Forgets all of a machine's connections. Having none is fine.
pub fn flush(link: &Link) -> Result<(), HvError> {
    for address in addresses(link) {
        // Nothing comes in by itself, so the machine has begun all of them.
        let all = ["-D", "-f", family(address), "-s", &address.to_string()];
        conntrack(&format!("forget the connections of {address}"), &all)?;
    }
    Ok(())
}

/// Forgets the connections that are forbidden now.
pub fn flush_refused(link: &Link, policy: &Policy, deny_list: &[IpNet]) -> Result<(), HvError> {
    for address in addresses(link) {
        let what = format!("look at the connections of {address}");
        let list = conntrack(&what, &["-L", "-f", family(address), "-s", &address.to_string()])?;
        let gone = list
            .lines()
            .filter_map(begun)
            .filter(|begun| !lets_through(policy, deny_list, &begun.connection));
        gone.into_iter().try_for_each(|gone| forget(address, gone))?;
    }
    Ok(())
}

fn forget(address: IpAddr, gone: Begun) -> Result<(), HvError> {
    let Begun { connection: Connection { protocol, to, port }, from_port } = gone;
    let name = match (protocol, to) {
        (Protocol::Icmp, IpAddr::V6(_)) => "icmpv6".to_owned(),
        _ => protocol.as_str().to_lowercase(),
    };
    let (from, to, from_port, port) =
        (address.to_string(), to.to_string(), from_port.to_string(), port.to_string());
    let one = ["-D", "-f", family(address), "-s", &from, "-d", &to, "-p", &name];
    let ports = ["--sport", &from_port, "--dport", &port];
    let ports = if protocol == Protocol::Icmp { &[][..] } else { &ports[..] };
    conntrack(&format!("forget a connection of {address} to {to}"), &[&one[..], ports].concat())
        .map(drop)
}

fn addresses(link: &Link) -> impl Iterator<Item = IpAddr> + use<> {
    link.nic.address().map(IpAddr::from).into_iter().chain(link.nic.ipv6().map(IpAddr::from))
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ipv4" } else { "ipv6" }
}

/// `tcp 6 431999 ESTABLISHED src=… dst=… sport=… dport=… src=…`: the first of each field is the
/// machine's side.
fn begun(line: &str) -> Option<Begun> {
    let field = |name: &str| {
        line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let protocol = match line.split_whitespace().next()? {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "icmp" | "icmpv6" => Protocol::Icmp,
        _ => return None,
    };
    let port = |name| field(name).and_then(|text| text.parse().ok()).unwrap_or_default();
    let connection = Connection { protocol, to: field("dst")?.parse().ok()?, port: port("dport") };
    Some(Begun { connection, from_port: port("sport") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conntrack_s_lines_are_read_from_the_machine_s_side() {
        let line = "tcp      6 431999 ESTABLISHED src=192.168.101.10 dst=203.0.113.80 sport=40000 \
            dport=8080 \
                    src=203.0.113.80 dst=203.0.113.254 sport=8080 dport=40000 [ASSURED] mark=0 \
                    use=1";
        let web = Connection { protocol: Protocol::Tcp, to: [203, 0, 113, 80].into(), port: 8080 };
        assert_eq!(begun(line), Some(Begun { connection: web, from_port: 40_000 }));
        let ping = "icmp     1 29 src=192.168.101.10 dst=203.0.113.80 type=8 code=0 id=7 \
            src=203.0.113.80 dst=x type=0";
        assert_eq!(
            begun(ping).map(|b| (b.connection.protocol, b.connection.port)),
            Some((Protocol::Icmp, 0))
        );
        let six = "icmpv6   58 29 src=fd12::a dst=2001:db8::80 type=128 code=0 id=7 \
            src=2001:db8::80 dst=x type=129";
        assert_eq!(begun(six).map(|b| b.connection.to), Some("2001:db8::80".parse().unwrap()));
        assert_eq!(begun("conntrack v1.4.7: 0 flow entries have been shown."), None);
    }
}
