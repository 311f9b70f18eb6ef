//! Looks at the host parts that machines' networks need, and at other firewalls.

use agentvm_hypervisor::libvirt::LibvirtFilter;
use ipnet::Ipv4Net;

use super::{Places, command};
use crate::doctor::observed::{Dropper, Filter, Network};

pub(super) fn network(places: &Places) -> Network {
    let addresses = command::output("ip", &["-4", "-o", "addr", "show"]).unwrap_or_default();
    // Empty for other users, because only root may list chains.
    let chains = command::output("nft", &["list", "chains"]).unwrap_or_default();
    Network {
        conntrack: command::find("conntrack").is_some(),
        forwarding: read("/proc/sys/net/ipv4/ip_forward").map(|text| text.trim() == "1"),
        addresses: addresses.lines().filter_map(address).collect(),
        droppers: droppers(&chains),
        resolvers: places.resolvers.clone(),
        filter: filter(places),
    }
}

/// Looks only if the filter is configured. Most hosts don't use it, and the call to libvirt would
/// be useless there.
fn filter(places: &Places) -> Filter {
    if places.libvirt_filter == LibvirtFilter::Disabled {
        return Filter::Disabled;
    }
    let missing = ["ebtables", "iptables", "ip6tables"]
        .into_iter()
        .find(|program| command::find(program).is_none());
    let driver = command::output("virsh", &["--connect", &places.libvirt_uri, "nwfilter-list"]);
    Filter::Enabled {
        problem: missing.map(|program| format!("there is no {program}")).or(driver.err()),
        bridged: read("/proc/sys/net/bridge/bridge-nf-call-iptables")
            .is_some_and(|text| text.trim() == "1"),
    }
}

/// `3: agentvm0    inet 192.168.101.1/24 brd …`
fn address(line: &str) -> Option<(String, Ipv4Net)> {
    let mut words = line.split_whitespace().skip(1);
    let interface = words.next()?;
    let net = words.skip_while(|word| *word != "inet").nth(1)?.parse().ok()?;
    Some((interface.to_owned(), net))
}

/// Base chains that drop routed packets which their own rules don't accept. Packets that our own
/// table accepts must pass these chains too.
fn droppers(chains: &str) -> Vec<Dropper> {
    let (mut table, mut chain) = (String::new(), String::new());
    let (mut found, mut dockers) = (Vec::new(), Vec::new());
    for line in chains.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("table ").and_then(|rest| rest.strip_suffix(" {")) {
            name.clone_into(&mut table);
        } else if let Some(name) =
            line.strip_prefix("chain ").and_then(|rest| rest.strip_suffix(" {"))
        {
            name.clone_into(&mut chain);
            if name == "DOCKER-USER" {
                dockers.push(table.clone());
            }
        } else if line.contains(" hook forward ") && line.contains("policy drop") {
            // Bridged packets are not routed.
            if !table.starts_with("bridge ") {
                found.push(Dropper {
                    table: table.clone(),
                    chain: chain.clone(),
                    docker_user: false,
                });
            }
        }
    }
    // nft may list the chains of a table in any order.
    for dropper in &mut found {
        dropper.docker_user = dockers.contains(&dropper.table);
    }
    found
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAINS: &str = "\
table ip filter {
	chain INPUT {
		type filter hook input priority filter; policy drop;
	}
	chain DOCKER-USER {
	}
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
	}
}
table inet agentvm_0a1b2c3d {
	chain forward {
		type filter hook forward priority filter - 10; policy accept;
	}
}
table ip6 filter {
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
	}
}
table inet strict {
	chain routed {
		type filter hook forward priority filter + 5; policy drop;
	}
}
table bridge filter {
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
	}
}
";

    #[test]
    fn who_drops_what_is_routed_is_found() {
        let dropper = |table: &str, chain: &str, docker_user| Dropper {
            table: table.into(),
            chain: chain.into(),
            docker_user,
        };
        let expected = [
            dropper("ip filter", "FORWARD", true),
            dropper("ip6 filter", "FORWARD", false),
            dropper("inet strict", "routed", false),
        ];
        assert_eq!(droppers(CHAINS), expected);
        assert_eq!(droppers(""), []);
    }

    #[test]
    fn addresses_are_read_as_ip_writes_them() {
        let line = "3: agentvm0    inet 192.168.101.1/24 brd 192.168.101.255 scope global \
                    agentvm0\\       valid_lft forever";
        assert_eq!(
            address(line),
            Some(("agentvm0".to_owned(), "192.168.101.1/24".parse().unwrap()))
        );
        assert_eq!(address("1: lo    inet6 ::1/128 scope host"), None);
    }
}
