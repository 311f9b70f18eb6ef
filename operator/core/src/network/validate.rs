//! From a pool's `network` and `limits` to a policy: fills in defaults, and refuses forbidden or
//! impossible values.

use std::net::{IpAddr, Ipv4Addr};

use agentvm_crds::{AllowSpec, LimitsSpec, NetworkMode, NetworkSpec, Profile, Protocol};
use ipnet::IpNet;

use super::families::asks_ipv6;
use super::rules::{names_private, nowhere};
use super::{Allow, LinkLimits, POOL_ELEMENTS, Policy, PortRange};
use crate::defaults::{Defaults, NetworkDefaults};
use crate::invalid_spec::InvalidSpec;
use crate::limit_defaults::LimitPreset;

/// The limits of the API. An object that was written in another way is held to them, too.
const MOST_ENTRIES: usize = 64;
/// The length that Linux accepts for the name of an interface.
const MOST_NAME: usize = 15;

/// The policy of a pool, from this generation of its spec. Without `network` and `limits` it is the
/// default policy.
pub fn policy(
    network: Option<&NetworkSpec>,
    limits: Option<&LimitsSpec>,
    generation: i64,
    defaults: &Defaults,
    profile: Profile,
) -> Result<Policy, InvalidSpec> {
    let ipv6 = network.is_some_and(asks_ipv6);
    let entries = network.and_then(|network| network.allow.as_deref()).unwrap_or_default();
    bounded("spec.network.allow", entries.len())?;
    let elements: usize = entries
        .iter()
        .map(|entry| {
            entry.ports.as_ref().map_or(0, Vec::len) + entry.cidrs.as_ref().map_or(0, Vec::len)
        })
        .sum();
    if elements > POOL_ELEMENTS {
        return Err(InvalidSpec::new(
            "spec.network.allow",
            format!(
                "has {elements} networks and ports in all; at most {POOL_ELEMENTS} are taken: name \
                    fewer and larger networks"
            ),
        ));
    }
    let allow =
        entries.iter().enumerate().map(|(at, entry)| allowed(at, entry, ipv6, &defaults.network));
    Ok(Policy {
        generation,
        ipv6,
        allow: allow.collect::<Result<_, _>>()?,
        resolvers: resolvers(
            network.and_then(|network| network.resolver.as_deref()),
            &defaults.network,
        )?,
        limits: link_limits(limits, defaults.limits.of(profile))?,
    })
}

/// The bridge of the host that machines are plugged into: named with mode `Bridge`, and only there.
pub fn bridge(
    network: Option<&NetworkSpec>,
    mode: NetworkMode,
    defaults: &NetworkDefaults,
) -> Result<Option<String>, InvalidSpec> {
    let wrong = |problem: &str| Err(InvalidSpec::new("spec.network.bridge", problem));
    let is_allowed = |name: &str| defaults.allowed_bridges.iter().any(|one| one == name);
    match (mode, network.and_then(|network| network.bridge.as_deref())) {
        (NetworkMode::Bridge, None) => {
            wrong("is required with mode Bridge: name a bridge of the host")
        }
        (NetworkMode::Bridge, Some(name)) if !is_interface(name) => wrong(
            "must be the name of an interface: at most 15 letters, digits, '.', '_' and '-', a \
                letter or digit first",
        ),
        // There machines could pretend to be one another's.
        (NetworkMode::Bridge, Some(name))
            if name.starts_with("agentvm") || name.starts_with("avm") =>
        {
            wrong(
                "must not be a bridge of agentvm: use mode NatFiltered for that, or name one of \
                    your own",
            )
        }
        (NetworkMode::Bridge, Some(name)) if !is_allowed(name) => wrong(&format!(
            "{name} may not be used by pools: the administrator of the hosts lists the bridges \
                that may, in network.allowed_bridges of the operator's configuration"
        )),
        (NetworkMode::Bridge, Some(name)) => Ok(Some(name.to_owned())),
        (_, Some(_)) => {
            wrong("is only allowed with mode Bridge: set mode to Bridge, or remove bridge")
        }
        (_, None) => Ok(None),
    }
}

/// Whether Linux takes this name for an interface.
pub fn is_interface(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    name.len() <= MOST_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(plain)
}

fn allowed(
    at: usize,
    entry: &AllowSpec,
    ipv6: bool,
    defaults: &NetworkDefaults,
) -> Result<Allow, InvalidSpec> {
    let path = format!("spec.network.allow[{at}]");
    let ports = entry.ports.as_deref().unwrap_or_default();
    if entry.protocol == Protocol::Icmp && !ports.is_empty() {
        return Err(InvalidSpec::new(format!("{path}.ports"), "ICMP has no ports: remove them"));
    }
    let cidrs = entry.cidrs.as_deref().unwrap_or_default();
    bounded(&format!("{path}.ports"), ports.len())?;
    bounded(&format!("{path}.cidrs"), cidrs.len())?;
    let ports =
        ports.iter().enumerate().map(|(at, port)| one_port(&format!("{path}.ports[{at}]"), *port));
    let cidrs = cidrs
        .iter()
        .enumerate()
        .map(|(at, text)| cidr(&format!("{path}.cidrs[{at}]"), text, ipv6, defaults));
    Ok(Allow {
        protocol: entry.protocol,
        ports: ports.collect::<Result<_, _>>()?,
        cidrs: cidrs.collect::<Result<_, _>>()?,
    })
}

fn bounded(path: &str, length: usize) -> Result<(), InvalidSpec> {
    if length > MOST_ENTRIES {
        return Err(InvalidSpec::new(
            path,
            format!("has {length} items; at most {MOST_ENTRIES} are taken"),
        ));
    }
    Ok(())
}

fn one_port(path: &str, port: i32) -> Result<PortRange, InvalidSpec> {
    let port = u16::try_from(port).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| InvalidSpec::new(path, "must be 1 to 65535"))?;
    Ok(PortRange { first: port, last: port })
}

fn cidr(
    path: &str,
    text: &str,
    ipv6: bool,
    defaults: &NetworkDefaults,
) -> Result<IpNet, InvalidSpec> {
    let net: IpNet = text.parse().map_err(|_| {
        InvalidSpec::new(
            path,
            format!(
                "\"{text}\" is not a network such as 203.0.113.0/24 or fd12:3456::/48, or \
                    10.1.2.3/32 for one address"
            ),
        )
    })?;
    if matches!(net, IpNet::V6(_)) && !ipv6 {
        let problem = format!(
            "{text} is of IPv6, which these machines don't have: set spec.network.ipFamilies to \
                [IPv4, IPv6]"
        );
        return Err(InvalidSpec::new(path, problem));
    }
    if net != net.trunc() {
        // The one is a private range and the other a single address: not for us to guess.
        let (whole, one) = (net.trunc(), IpNet::from(net.addr()));
        return Err(InvalidSpec::new(
            path,
            format!("{text} means {whole}: write that, or {one} for the one address"),
        ));
    }
    match closed(net, defaults).or_else(|| unlisted(net, defaults)) {
        Some(why) => Err(InvalidSpec::new(path, format!("{text} can't be allowed: {why}"))),
        None => Ok(net),
    }
}

/// Why a pool may not name this private network: behind it are the neighbours of the hosts, so the
/// administrator of the hosts decides.
fn unlisted(net: IpNet, defaults: &NetworkDefaults) -> Option<String> {
    let is_listed = || defaults.allowed_private_cidrs.iter().any(|range| range.contains(&net));
    (names_private(&net) && !is_listed()).then(|| {
        "it is private, and the administrator of the hosts lists the private networks that pools \
            may use, in network.allowed_private_cidrs of the operator's configuration"
            .to_owned()
    })
}

/// Why nothing in this network can be opened by any policy.
fn closed(net: IpNet, defaults: &NetworkDefaults) -> Option<String> {
    if nowhere().iter().any(|range| range.contains(&net)) {
        return Some(
            "loopback, link-local (cloud metadata), multicast and reserved addresses never are"
                .to_owned(),
        );
    }
    let mut machines =
        [IpNet::from(defaults.machines)].into_iter().chain(defaults.machines_ipv6.map(IpNet::from));
    if let Some(range) = machines.find(|range| range.contains(&net)) {
        return Some(format!("it is in {range}, where the machines themselves are"));
    }
    let denied = defaults.deny_cidrs.iter().find(|range| range.contains(&net))?;
    Some(format!("{denied} is among the operator's network.deny_cidrs"))
}

fn resolvers(
    asked: Option<&str>,
    defaults: &NetworkDefaults,
) -> Result<Vec<Ipv4Addr>, InvalidSpec> {
    let path = "spec.network.resolver";
    let Some(text) = asked else { return Ok(defaults.resolvers.clone()) };
    let address: Ipv4Addr = text.parse().map_err(|_| {
        InvalidSpec::new(
            path,
            format!("\"{text}\" is not an IPv4 address; names and IPv6 are not accepted"),
        )
    })?;
    let net = IpNet::from(IpAddr::from(address));
    // The servers of the configuration are the administrator's choice.
    let chosen = defaults.resolvers.contains(&address);
    let unlisted = || unlisted(net, defaults).filter(|_| !chosen);
    match closed(net, defaults).or_else(unlisted) {
        Some(why) => {
            Err(InvalidSpec::new(path, format!("{text} can't be reached by machines: {why}")))
        }
        None => Ok(vec![address]),
    }
}

fn link_limits(
    limits: Option<&LimitsSpec>,
    preset: &LimitPreset,
) -> Result<LinkLimits, InvalidSpec> {
    let count = |field: &str, asked: Option<i32>, preset: u32, least: i32, most: i32| {
        let path = || format!("spec.limits.{field}");
        let Some(value) = asked else { return Ok(preset) };
        u32::try_from(value).ok().filter(|_| (least..=most).contains(&value)).ok_or_else(|| {
            InvalidSpec::new(path(), format!("must be {least} to {most}, is {value}"))
        })
    };
    let packets = limits.and_then(|limits| limits.packets_per_second);
    let connections = limits.and_then(|limits| limits.connections);
    let bytes = limits.and_then(|limits| limits.network_bytes_per_second);
    Ok(LinkLimits {
        bytes_per_second: crate::pool::bytes(
            "spec.limits.networkBytesPerSecond",
            bytes,
            4_000_000_000,
        )?
        .or(preset.network_bytes_per_second),
        packets_per_second: count(
            "packetsPerSecond",
            packets,
            preset.packets_per_second,
            100,
            1_000_000,
        )?,
        connections: count("connections", connections, preset.connections, 1, 65_536)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(protocol: Protocol, ports: &[i32], cidrs: &[&str]) -> NetworkSpec {
        let list = |some: bool| some.then_some(());
        NetworkSpec {
            allow: Some(vec![AllowSpec {
                protocol,
                ports: list(!ports.is_empty()).map(|()| ports.to_vec()),
                cidrs: list(!cidrs.is_empty())
                    .map(|()| cidrs.iter().map(ToString::to_string).collect()),
            }]),
            ..NetworkSpec::default()
        }
    }

    /// An administrator who lists some private networks.
    fn listed() -> Defaults {
        let nets = ["10.1.2.0/24", "fd12::/16", "168.63.129.16/32", "10.0.0.2/32"];
        Defaults {
            network: NetworkDefaults {
                allowed_private_cidrs: nets.map(|net| net.parse().unwrap()).to_vec(),
                ..NetworkDefaults::default()
            },
            ..Defaults::default()
        }
    }

    fn refused(network: &NetworkSpec) -> (String, String) {
        let defaults = Defaults {
            network: NetworkDefaults {
                deny_cidrs: vec!["10.96.0.0/12".parse().unwrap()],
                machines_ipv6: Some("fd77::/64".parse().unwrap()),
                ..NetworkDefaults::default()
            },
            ..Defaults::default()
        };
        let why = policy(Some(network), None, 1, &defaults, Profile::Standard).unwrap_err();
        (why.path, why.problem)
    }

    #[test]
    fn without_a_word_there_is_a_policy_that_allows_nothing_more() {
        let policy = policy(None, None, 7, &Defaults::default(), Profile::Standard).unwrap();
        assert_eq!((policy.generation, policy.allow.len()), (7, 0));
        assert_eq!(policy.resolvers, Defaults::default().network.resolvers);
        assert_eq!((policy.limits.packets_per_second, policy.limits.connections), (20_000, 512));
        assert_eq!(policy.limits.bytes_per_second, Some(64 << 20));
    }

    #[test]
    fn what_is_written_is_what_is_allowed() {
        let spec = spec(Protocol::Tcp, &[8080, 5000], &["10.1.2.3/32", "203.0.113.0/24"]);
        let policy = policy(Some(&spec), None, 1, &listed(), Profile::Standard).unwrap();
        let [allow] = policy.allow.as_slice() else { panic!("{policy:?}") };
        assert_eq!(
            allow.ports.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["8080", "5000"]
        );
        assert_eq!(
            allow.cidrs.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.1.2.3/32", "203.0.113.0/24"]
        );
    }

    #[test]
    fn what_no_policy_opens_is_refused_where_it_stands() {
        let metadata = "169.254.169.254/32";
        for net in [
            "127.0.0.1/32",
            metadata,
            "224.0.0.0/4",
            "255.255.255.255/32",
            "0.0.0.0/8",
            "192.168.101.10/32",
            "10.100.0.0/16",
        ] {
            let (path, why) = refused(&spec(Protocol::Tcp, &[80], &["203.0.113.0/24", net]));
            assert_eq!(path, "spec.network.allow[0].cidrs[1]", "{net}");
            assert!(why.contains("can't be allowed"), "{why}");
        }
    }

    #[test]
    fn mistakes_are_named_by_their_path() {
        let (path, why) = refused(&spec(Protocol::Tcp, &[80], &["10.1.2.3/8"]));
        assert_eq!(path, "spec.network.allow[0].cidrs[0]");
        assert_eq!(
            why,
            "10.1.2.3/8 means 10.0.0.0/8: write that, or 10.1.2.3/32 for the one address"
        );
        let (_, why) = refused(&spec(Protocol::Tcp, &[80], &["fd00::/8"]));
        assert!(why.contains("ipFamilies"), "{why}");
        for bad in ["10.0.0.0", "10.0.0.0/33", "example.org", ""] {
            assert_eq!(
                refused(&spec(Protocol::Tcp, &[], &[bad])).0,
                "spec.network.allow[0].cidrs[0]",
                "{bad}"
            );
        }
        assert_eq!(
            refused(&spec(Protocol::Udp, &[53, 0], &[])).0,
            "spec.network.allow[0].ports[1]"
        );
        assert_eq!(
            refused(&spec(Protocol::Udp, &[65_536], &[])).0,
            "spec.network.allow[0].ports[0]"
        );
        assert_eq!(refused(&spec(Protocol::Icmp, &[1], &[])).0, "spec.network.allow[0].ports");
        assert_eq!(refused(&spec(Protocol::Tcp, &[1; 65], &[])).0, "spec.network.allow[0].ports");
        for resolver in ["::1", "dns.example", "127.0.0.53", "10.96.0.10", "1.1.1.1.1"] {
            let network =
                NetworkSpec { resolver: Some(resolver.to_owned()), ..NetworkSpec::default() };
            assert_eq!(refused(&network).0, "spec.network.resolver", "{resolver}");
        }
        let limits = LimitsSpec { connections: Some(0), ..LimitsSpec::default() };
        assert_eq!(
            policy(None, Some(&limits), 1, &Defaults::default(), Profile::Standard)
                .unwrap_err()
                .path,
            "spec.limits.connections"
        );
        let limits = LimitsSpec { network_bytes_per_second: Some(1), ..LimitsSpec::default() };
        let path = policy(None, Some(&limits), 1, &Defaults::default(), Profile::Standard)
            .unwrap_err()
            .path;
        assert_eq!(path, "spec.limits.networkBytesPerSecond");
    }

    fn dual(network: NetworkSpec) -> NetworkSpec {
        NetworkSpec {
            ip_families: Some(vec![agentvm_crds::IpFamily::IPv4, agentvm_crds::IpFamily::IPv6]),
            ..network
        }
    }

    #[test]
    fn networks_of_ipv6_are_held_to_the_same() {
        let fine = dual(spec(
            Protocol::Tcp,
            &[80],
            &["fd12:3456::/48", "2001:db8::/32", "::/0", "10.1.2.3/32"],
        ));
        let policy = policy(Some(&fine), None, 1, &listed(), Profile::Standard).unwrap();
        assert!(policy.ipv6 && policy.allow[0].cidrs.len() == 4);
        for net in [
            "fe80::/64",
            "::1/128",
            "fd77::a/128",
            "ff02::/16",
            "64:ff9b::/96",
            "2002::/16",
            "2001::/48",
            "4000::/8",
        ] {
            let (path, why) = refused(&dual(spec(Protocol::Tcp, &[80], &[net])));
            assert_eq!(path, "spec.network.allow[0].cidrs[0]", "{net}");
            assert!(why.contains("can't be allowed"), "{why}");
        }
        let (_, why) = refused(&dual(spec(Protocol::Tcp, &[80], &["fd12::1/48"])));
        assert_eq!(
            why,
            "fd12::1/48 means fd12::/48: write that, or fd12::1/128 for the one address"
        );
    }

    #[test]
    fn private_networks_and_bridges_are_the_administrators_choice() {
        let of = |network: &NetworkSpec, defaults: &Defaults| {
            policy(Some(network), None, 1, defaults, Profile::Standard)
        };
        let key = "network.allowed_private_cidrs";
        for net in ["10.1.2.3/32", "10.1.3.0/24", "10.0.0.0/8", "192.168.7.0/24", "100.64.0.1/32"] {
            let named = spec(Protocol::Tcp, &[443], &[net]);
            let why = of(&named, &Defaults::default()).unwrap_err();
            assert_eq!(why.path, "spec.network.allow[0].cidrs[0]", "{net}");
            assert!(why.problem.contains(key), "{}", why.problem);
            assert_eq!(of(&named, &listed()).is_ok(), net == "10.1.2.3/32", "{net}");
        }
        let six = dual(spec(Protocol::Tcp, &[443], &["fd13::/48"]));
        assert!(of(&six, &listed()).unwrap_err().problem.contains(key));
        // Public ones, also with "everything", open nothing private.
        for net in ["203.0.113.0/24", "0.0.0.0/0"] {
            of(&spec(Protocol::Tcp, &[443], &[net]), &Defaults::default()).unwrap();
        }
        let asks =
            |text: &str| NetworkSpec { resolver: Some(text.to_owned()), ..NetworkSpec::default() };
        let why = of(&asks("10.0.0.3"), &listed()).unwrap_err();
        assert!(why.path == "spec.network.resolver" && why.problem.contains(key), "{why:?}");
        let mut defaults = Defaults::default();
        defaults.network.resolvers = vec![Ipv4Addr::new(10, 0, 0, 3)];
        of(&asks("10.0.0.3"), &defaults).unwrap();
        of(&NetworkSpec::default(), &defaults).unwrap();
    }

    #[test]
    fn a_pool_names_so_many_networks_and_ports_together() {
        let full = |entries: usize| NetworkSpec {
            allow: Some(vec![
                AllowSpec {
                    protocol: Protocol::Tcp,
                    ports: Some((1..=32).collect()),
                    cidrs: Some(vec!["203.0.113.0/24".to_owned(); 32]),
                };
                entries
            ]),
            ..NetworkSpec::default()
        };
        let of = |entries| {
            let network = full(entries);
            policy(Some(&network), None, 1, &Defaults::default(), Profile::Standard)
        };
        assert_eq!(of(8).unwrap().elements(), POOL_ELEMENTS);
        let why = of(9).unwrap_err();
        assert_eq!(why.path, "spec.network.allow");
        assert!(why.problem.contains("576") && why.problem.contains("512"), "{}", why.problem);
    }

    #[test]
    fn a_resolver_may_be_private_if_it_is_listed() {
        for resolver in [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(168, 63, 129, 16)] {
            let network =
                NetworkSpec { resolver: Some(resolver.to_string()), ..NetworkSpec::default() };
            let policy = policy(Some(&network), None, 1, &listed(), Profile::Standard).unwrap();
            assert_eq!(policy.resolvers, [resolver]);
        }
    }

    #[test]
    fn a_bridge_is_named_for_mode_bridge_and_is_not_ours() {
        let named =
            |name: &str| NetworkSpec { bridge: Some(name.to_owned()), ..NetworkSpec::default() };
        let allowed_bridges = ["br0", "agentvm0"].map(str::to_owned).to_vec();
        let defaults = NetworkDefaults { allowed_bridges, ..NetworkDefaults::default() };
        let bridge = |network: Option<&NetworkSpec>, mode| bridge(network, mode, &defaults);
        let of = |name: &str| bridge(Some(&named(name)), NetworkMode::Bridge);
        assert_eq!(of("br0"), Ok(Some("br0".to_owned())));
        for bad in
            ["", "a/b", "sixteen-letters-", "..", "br 0", "-br", "br0;", "agentvm0", "avmb0a1b2c3d"]
        {
            assert_eq!(of(bad).unwrap_err().path, "spec.network.bridge", "{bad}");
        }
        let why = of("br1").unwrap_err();
        assert!(why.path == "spec.network.bridge", "{why:?}");
        assert!(why.problem.contains("network.allowed_bridges"), "{}", why.problem);
        assert!(bridge(None, NetworkMode::Bridge).is_err());
        assert!(bridge(Some(&named("br0")), NetworkMode::NatFiltered).is_err());
        assert_eq!(bridge(None, NetworkMode::NatFiltered), Ok(None));
    }
}
