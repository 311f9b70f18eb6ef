//! The versions of IP that a pool's machines have.

use agentvm_crds::{IpFamily, NetworkMode, NetworkSpec};

use crate::invalid_spec::InvalidSpec;

/// Do machines have IPv6 too? A pool asks for it beside IPv4, and only machines on our own bridge
/// get it.
pub fn ipv6(network: Option<&NetworkSpec>, mode: NetworkMode) -> Result<bool, InvalidSpec> {
    let Some(network) = network else { return Ok(false) };
    let wrong = |problem: &str| Err(InvalidSpec::new("spec.network.ipFamilies", problem));
    let families = network.ip_families.as_deref().unwrap_or(&[IpFamily::IPv4]);
    let repeated = families
        .iter()
        .enumerate()
        .any(|(at, family)| families.iter().take(at).any(|one| one == family));
    match mode {
        _ if repeated || !families.contains(&IpFamily::IPv4) => {
            wrong("must be [IPv4] or [IPv4, IPv6]")
        }
        NetworkMode::Isolated | NetworkMode::Bridge if asks_ipv6(network) => wrong(
            "IPv6 is only possible with mode NatFiltered: set mode to NatFiltered, or remove IPv6",
        ),
        _ => Ok(asks_ipv6(network)),
    }
}

/// Other fields do not matter.
pub(super) fn asks_ipv6(network: &NetworkSpec) -> bool {
    network.ip_families.as_ref().is_some_and(|families| families.contains(&IpFamily::IPv6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_is_asked_for_beside_ipv4_and_on_our_own_bridge() {
        use IpFamily::{IPv4, IPv6};
        let of = |families: &[IpFamily], mode| {
            let network =
                NetworkSpec { ip_families: Some(families.to_vec()), ..NetworkSpec::default() };
            ipv6(Some(&network), mode).map_err(|why| why.path)
        };
        let path = || Err("spec.network.ipFamilies".to_owned());
        assert_eq!(of(&[IPv4, IPv6], NetworkMode::NatFiltered), Ok(true));
        assert_eq!(of(&[IPv6, IPv4], NetworkMode::NatFiltered), Ok(true));
        assert_eq!(of(&[IPv4], NetworkMode::Bridge), Ok(false));
        assert_eq!(ipv6(None, NetworkMode::NatFiltered), Ok(false));
        for families in [&[][..], &[IPv6], &[IPv4, IPv4], &[IPv4, IPv6, IPv6]] {
            assert_eq!(of(families, NetworkMode::NatFiltered), path(), "{families:?}");
        }
        for mode in [NetworkMode::Bridge, NetworkMode::Isolated] {
            assert_eq!(of(&[IPv4, IPv6], mode), path());
        }
    }
}
