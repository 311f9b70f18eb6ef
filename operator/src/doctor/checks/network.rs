//! Checks of the host parts that machines' networks need, and of other programs that may block
//! them. Machines of mode `Isolated` need no part of this.

use agentvm_core::defaults::NetworkDefaults;

use crate::doctor::finding::{Check, Finding};
use crate::doctor::observed::{Dropper, Filter, Host, Network};

/// The bridge of the first installation on a host.
const BRIDGE: &str = "agentvm0";
/// Prefix of the bridges of further installations, and of the first one's bridge if its addresses
/// were in use.
const OTHER_BRIDGES: &str = "avmb";

pub(super) fn nftables(host: &Host, network: &Network) -> Finding {
    const CHECK: Check = Check {
        id: "nftables",
        title: "nftables",
        why: "nftables limits the destinations of machines, and conntrack forgets the connections \
              of a machine that is reset. Without them no machine with a network starts, and pools \
              ask for a network by default.",
    };
    let mend =
        "apt-get install nftables conntrack    (or `network: {mode: Isolated}` in every pool)";
    match (&host.nftables, network.conntrack) {
        (Some(version), true) => CHECK.ok(version.clone()),
        (Some(_), false) => CHECK.warning("there is no conntrack", mend),
        (None, _) => CHECK.warning("there is no nft", mend),
    }
}

pub(super) fn subnet(network: &Network) -> Finding {
    const CHECK: Check = Check {
        id: "machine-subnet",
        title: "Subnet",
        why: "Machines have addresses from a network of their own. Machines could not reach \
              another network with these addresses, and its packets would collide with theirs.",
    };
    let ours = NetworkDefaults::default().machines;
    let overlaps = |net: &ipnet::Ipv4Net| net.contains(&ours) || ours.contains(net);
    let on = |name: &str| {
        network
            .addresses
            .iter()
            .find(|(interface, net)| (interface == BRIDGE) == (name == BRIDGE) && overlaps(net))
    };
    // The bridge of another installation, or our own if the first addresses were in use. Report
    // both.
    let others =
        network.addresses.iter().filter(|(interface, _)| interface.starts_with(OTHER_BRIDGES));
    let others = others
        .map(|(interface, net)| format!("; {} on {interface}", net.trunc()))
        .collect::<Vec<_>>()
        .concat();
    match (on(BRIDGE), on("")) {
        (_, Some((interface, net))) => CHECK.info(
            format!(
                "{net} is on {interface}, so machines take the next unused /24, up to \
                 192.168.199.0{others}"
            ),
            "",
        ),
        (Some(_), None) => CHECK.ok(format!("{ours} on {BRIDGE}{others}")),
        (None, None) => CHECK.ok(format!("{ours} is free{others}")),
    }
}

pub(super) fn forwarding(network: &Network) -> Finding {
    const CHECK: Check = Check {
        id: "ip-forwarding",
        title: "Routing",
        why: "This host routes the packets that machines send to the internet.",
    };
    match network.forwarding {
        Some(true) => CHECK.ok("net.ipv4.ip_forward is 1"),
        Some(false) => CHECK.info(
            "net.ipv4.ip_forward is 0; libvirt sets it when it starts the machines' network",
            "If /proc/sys isn't writable (in a container): sysctl -w net.ipv4.ip_forward=1 on \
             the host",
        ),
        None => CHECK.info("net.ipv4.ip_forward could not be read", ""),
    }
}

pub(super) fn others(network: &Network) -> Finding {
    const CHECK: Check = Check {
        id: "forward-policy",
        title: "Other firewalls",
        why: "Packets that agentvm's rules accept must also pass the rules of other programs \
              (Docker, ufw, firewalld).",
    };
    let Some(first) = dropper(network, "ip") else {
        return CHECK.ok("no other firewall drops routed packets");
    };
    CHECK.warning(
        format!(
            "chain {} of table {} drops routed packets that its own rules don't accept",
            first.chain, first.table
        ),
        format!(
            "If machines reach nothing, let the packets of their bridge pass:\n{}",
            let_pass(first)
        ),
    )
}

pub(super) fn others_ipv6(network: &Network) -> Finding {
    const CHECK: Check = Check {
        id: "forward-policy-ipv6",
        title: "Other firewalls, IPv6",
        why: "IPv6 packets that agentvm's rules accept must also pass the rules of other programs. \
              Only machines of pools with `ipFamilies: [IPv4, IPv6]` have IPv6.",
    };
    let Some(first) = dropper(network, "ip6") else {
        return CHECK.ok("no other firewall drops routed IPv6 packets");
    };
    CHECK.warning(
        format!(
            "chain {} of table {} drops routed IPv6 packets that its own rules don't accept; this \
             matters only to pools with `ipFamilies: [IPv4, IPv6]`",
            first.chain, first.table
        ),
        format!(
            "If their machines reach nothing by IPv6, let the packets of their bridge pass:\n{}",
            let_pass(first)
        ),
    )
}

/// The first chain that drops packets of this IP version: `ip` or `ip6`.
fn dropper<'a>(network: &'a Network, version: &str) -> Option<&'a Dropper> {
    network.droppers.iter().find(|dropper| {
        let family = dropper.table.split(' ').next();
        family == Some(version) || family == Some("inet")
    })
}

/// Commands that let the packets of the machines' bridge pass a chain. A chain that iptables made
/// takes an iptables command; any other chain takes an nft command.
fn let_pass(dropper: &Dropper) -> String {
    let Dropper { table, chain, docker_user } = dropper;
    let program = match (table.as_str(), chain.as_str()) {
        ("ip filter", "FORWARD") => "iptables",
        ("ip6 filter", "FORWARD") => "ip6tables",
        _ => {
            return format!(
                "nft insert rule {table} {chain} iifname {BRIDGE} accept && nft insert rule \
                 {table} {chain} oifname {BRIDGE} ct state established,related accept"
            );
        }
    };
    let chain = if *docker_user { "DOCKER-USER" } else { "FORWARD" };
    format!(
        "{program} -I {chain} -i {BRIDGE} -j ACCEPT && {program} -I {chain} -o {BRIDGE} -m \
         conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\nwith ufw: ufw route allow in on \
         {BRIDGE}"
    )
}

pub(super) fn resolver(network: &Network) -> Finding {
    const CHECK: Check = Check {
        id: "resolver",
        title: "DNS",
        why: "Machines ask the servers of their pool's `network.resolver`, or else these servers, \
              and no others. A machine cannot reach this host, its DNS server included.",
    };
    let mend = "Set network.resolvers to a server that machines can reach, such as the DNS server \
                of your network";
    let own = |server: &&std::net::Ipv4Addr| {
        network.addresses.iter().any(|(_, net)| net.addr() == **server)
    };
    match (network.resolvers.as_slice(), network.resolvers.iter().find(own)) {
        ([], _) => CHECK
            .warning("none: this host asks only itself, so machines can look up no names", mend),
        (_, Some(server)) => CHECK.warning(format!("{server} is this host itself"), mend),
        (servers, None) => {
            CHECK.ok(servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        }
    }
}

pub(super) fn filter(filter: &Filter) -> Finding {
    const CHECK: Check = Check {
        id: "libvirt-filter",
        title: "libvirt's filter",
        why: "Some hosts want a libvirt filter on every interface (`network.libvirt_filter`). \
              agentvm's own rules hold machines with and without one.",
    };
    match filter {
        Filter::Disabled => CHECK.ok("not configured"),
        Filter::Enabled { problem: Some(why), .. } => CHECK.warning(
            format!("configured, but machines with a network can't have it: {why}"),
            "apt-get install libvirt-daemon-driver-nwfilter iptables, and restart libvirtd    (or \
             `network: {libvirt_filter: disabled}`)",
        ),
        Filter::Enabled { bridged: false, .. } => CHECK.info(
            "on every machine; in mode Bridge it refuses no connection, because iptables doesn't \
             see bridged packets",
            "modprobe br_netfilter && sysctl -w net.bridge.bridge-nf-call-iptables=1",
        ),
        Filter::Enabled { .. } => CHECK.ok("on every machine; the creation of a machine takes \
                                            about twice as long"),
    }
}
