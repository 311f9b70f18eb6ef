//! Reads each kind of value from text. The error message names the values that are allowed.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use agentvm_core::network::is_interface;
use agentvm_core::network::rules::nowhere;
use agentvm_crds::{NetworkMode, Profile, ReusePolicy};
use agentvm_hypervisor::libvirt::LibvirtFilter;
use ipnet::IpNet;
use serde_json::Value as Json;

use super::settings::ByProfile;

/// The largest memory that any key accepts, MiB (16 TiB).
pub(super) const MEMORY_MAX_MIB: u32 = 16 << 20;

/// A value that `agentvm config show` can print.
pub(super) trait Value {
    fn json(&self) -> Json;
}

impl Value for u32 {
    fn json(&self) -> Json {
        Json::from(*self)
    }
}

/// `None` is the text `unlimited`.
impl Value for Option<u32> {
    fn json(&self) -> Json {
        self.map_or_else(|| Json::from("unlimited"), Json::from)
    }
}

impl Value for Option<u64> {
    fn json(&self) -> Json {
        self.map_or_else(|| Json::from("unlimited"), Json::from)
    }
}

/// `Each` is the text `profile`.
impl<T: Value> Value for ByProfile<T> {
    fn json(&self) -> Json {
        match self {
            Self::Each => Json::from("profile"),
            Self::All(one) => one.json(),
        }
    }
}

impl Value for Vec<Ipv4Addr> {
    fn json(&self) -> Json {
        listed(self)
    }
}

impl Value for Vec<String> {
    fn json(&self) -> Json {
        listed(self)
    }
}

impl Value for Vec<IpNet> {
    fn json(&self) -> Json {
        listed(self)
    }
}

/// One text, in the form that the reader accepts, so that file, variable and flag use one form.
fn listed<T: Display>(items: &[T]) -> Json {
    if items.is_empty() {
        return Json::from("none");
    }
    Json::from(items.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

impl Value for String {
    fn json(&self) -> Json {
        Json::from(self.as_str())
    }
}

impl Value for PathBuf {
    fn json(&self) -> Json {
        Json::from(self.to_string_lossy())
    }
}

impl Value for NetworkMode {
    fn json(&self) -> Json {
        Json::from(match self {
            Self::NatFiltered => "nat_filtered",
            Self::Isolated => "isolated",
            Self::Bridge => "bridge",
        })
    }
}

impl Value for Profile {
    fn json(&self) -> Json {
        Json::from(match self {
            Self::Light => "light",
            Self::Standard => "standard",
            Self::Intensive => "intensive",
            Self::Custom => "custom",
        })
    }
}

impl Value for ReusePolicy {
    fn json(&self) -> Json {
        Json::from(match self {
            Self::VerifiedReset => "verified_reset",
            Self::Never => "never",
        })
    }
}

impl Value for LibvirtFilter {
    fn json(&self) -> Json {
        Json::from(match self {
            Self::Disabled => "disabled",
            Self::Enabled => "enabled",
        })
    }
}

/// `None` is the text `off`.
impl Value for Option<SocketAddr> {
    fn json(&self) -> Json {
        Json::from(self.map_or_else(|| "off".to_owned(), |address| address.to_string()))
    }
}

/// The first user id for machines; `None` is the text `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FirstUid(pub Option<u32>);

impl Value for FirstUid {
    fn json(&self) -> Json {
        self.0.map_or_else(|| Json::from("off"), Json::from)
    }
}

/// The range lies above the users of people and distributions, and below the numbers that some
/// programs read as negative.
pub(super) fn first_uid(text: &str) -> Result<FirstUid, String> {
    if text == "off" {
        return Ok(FirstUid(None));
    }
    whole::<65_536, 2_147_000_000>(text)
        .map(|uid| FirstUid(Some(uid)))
        .map_err(|why| format!("{why}, nor \"off\""))
}

/// A whole number from `MIN` to `MAX`.
pub(super) fn whole<const MIN: u32, const MAX: u32>(text: &str) -> Result<u32, String> {
    let said = text.parse::<u32>().ok().filter(|n| (MIN..=MAX).contains(n));
    said.ok_or_else(|| format!("\"{text}\" is not a whole number from {MIN} to {MAX}"))
}

/// A whole number from `MIN` to `MAX`, or `unlimited`.
pub(super) fn limit<const MIN: u32, const MAX: u32>(text: &str) -> Result<Option<u32>, String> {
    if text == "unlimited" {
        return Ok(None);
    }
    whole::<MIN, MAX>(text).map(Some).map_err(|why| format!("{why}, nor \"unlimited\""))
}

/// Like [`limit`], for numbers that need 64 bits.
pub(super) fn rate<const MIN: u64, const MAX: u64>(text: &str) -> Result<Option<u64>, String> {
    if text == "unlimited" {
        return Ok(None);
    }
    let said = text.parse::<u64>().ok().filter(|n| (MIN..=MAX).contains(n));
    said.map(Some).ok_or_else(|| {
        format!("\"{text}\" is neither a whole number from {MIN} to {MAX}, nor \"unlimited\"")
    })
}

/// Like [`whole`], or `profile`.
pub(super) fn whole_by_profile<const MIN: u32, const MAX: u32>(
    text: &str,
) -> Result<ByProfile<u32>, String> {
    by_profile(text, whole::<MIN, MAX>)
}

/// Like [`rate`], or `profile`.
pub(super) fn rate_by_profile<const MIN: u64, const MAX: u64>(
    text: &str,
) -> Result<ByProfile<Option<u64>>, String> {
    by_profile(text, rate::<MIN, MAX>)
}

fn by_profile<T>(text: &str, parse: fn(&str) -> Result<T, String>) -> Result<ByProfile<T>, String> {
    if text == "profile" {
        return Ok(ByProfile::Each);
    }
    parse(text).map(ByProfile::All).map_err(|why| format!("{why}, nor \"profile\""))
}

/// Addresses of DNS servers, IPv4 only. A name is not accepted, because no server could resolve it
/// yet.
pub(super) fn resolvers(text: &str) -> Result<Vec<Ipv4Addr>, String> {
    let addresses: Vec<Ipv4Addr> = items(text, "an IPv4 address such as 192.0.2.53")?;
    let closed = |address: &&Ipv4Addr| {
        nowhere().iter().any(|range| range.contains(&IpAddr::from(**address)))
    };
    match addresses.iter().find(closed) {
        Some(address) => Err(format!(
            "{address} can't be a resolver: machines never reach loopback, link-local, multicast \
             and reserved addresses"
        )),
        None => Ok(addresses),
    }
}

/// Networks of IPv4 and IPv6.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let networks: Vec<IpNet> = items(text, "a network such as 10.96.0.0/12 or fd12:3456::/48")?;
    Ok(networks.into_iter().map(|network| network.trunc()).collect())
}

/// Names of bridges of the host.
pub(super) fn bridges(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> = items(text, "the name of a bridge")?;
    match names.iter().find(|name| !is_interface(name)) {
        Some(wrong) => Err(format!("\"{wrong}\" is not the name of a bridge")),
        None => Ok(names),
    }
}

/// `none`, or items that are separated by commas or spaces.
fn items<T: std::str::FromStr>(text: &str, what: &str) -> Result<Vec<T>, String> {
    let items = text.split([',', ' ']).filter(|item| !item.is_empty() && text != "none");
    items.map(|item| item.parse().map_err(|_| format!("\"{item}\" is not {what}"))).collect()
}

pub(super) fn network_mode(text: &str) -> Result<NetworkMode, String> {
    choice(
        text,
        &[
            ("nat_filtered", NetworkMode::NatFiltered),
            ("isolated", NetworkMode::Isolated),
            ("bridge", NetworkMode::Bridge),
        ],
    )
}

pub(super) fn libvirt_filter(text: &str) -> Result<LibvirtFilter, String> {
    choice(text, &[("disabled", LibvirtFilter::Disabled), ("enabled", LibvirtFilter::Enabled)])
}

pub(super) fn reuse_policy(text: &str) -> Result<ReusePolicy, String> {
    choice(text, &[("verified_reset", ReusePolicy::VerifiedReset), ("never", ReusePolicy::Never)])
}

/// An address to listen on, or `off`. A name is not accepted, because its address could change.
pub(super) fn listen(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    let said = text.parse().map(Some);
    said.map_err(|_| {
        format!("\"{text}\" is neither an address and a port such as 127.0.0.1:9090, nor \"off\"")
    })
}

/// `Custom` is not accepted, because it would be a default without numbers.
pub(super) fn profile(text: &str) -> Result<Profile, String> {
    choice(
        text,
        &[
            ("light", Profile::Light),
            ("standard", Profile::Standard),
            ("intensive", Profile::Intensive),
        ],
    )
}

/// A libvirt URI: `driver[+transport]://…`. Only libvirt could check more.
pub(super) fn uri(text: &str) -> Result<String, String> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    match scheme {
        Some(scheme)
            if !scheme.is_empty()
                && scheme.chars().all(plain)
                && !text.contains(char::is_whitespace) =>
        {
            Ok(text.to_owned())
        }
        _ => Err(format!(
            "\"{text}\" is not a libvirt URI such as qemu:///system or \
             qemu+unix:///system?socket=/path"
        )),
    }
}

/// An absolute path without `..`.
pub(super) fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
    if path.is_absolute() && !climbs && !text.contains('\0') {
        return Ok(path);
    }
    Err(format!("\"{text}\" is not an absolute path without \"..\""))
}

/// A name that a Kubernetes Lease and a status accept.
pub(super) fn node_name(text: &str) -> Result<String, String> {
    let label = |part: &str| {
        let inner = part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        !part.is_empty()
            && part.len() <= 63
            && inner
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "\"{text}\" is not a node name: lower-case letters, digits, '-' and '.', at most 253 \
         characters; each part must begin and end with a letter or digit"
    ))
}

fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let near = super::unknown_key::nearest(text, names.iter().copied())
        .map(|near| format!("; did you mean \"{near}\"?"));
    Err(format!("\"{text}\" is not one of {}{}", names.join(", "), near.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_range_and_nothing_else_is_a_number() {
        assert_eq!(whole::<1, 10>("10"), Ok(10));
        for bad in ["0", "11", "-1", "1.5", "ten", "", " 1", "99999999999"] {
            assert!(whole::<1, 10>(bad).is_err_and(|why| why.contains("from 1 to 10")), "{bad}");
        }
    }

    #[test]
    fn a_limit_may_be_unlimited() {
        assert_eq!(limit::<1, 10>("unlimited"), Ok(None));
        assert_eq!(limit::<1, 10>("3"), Ok(Some(3)));
        assert!(limit::<1, 10>("infinite").is_err_and(|why| why.contains("unlimited")));
    }

    #[test]
    fn lists_are_one_text() {
        let resolvers = resolvers("192.0.2.53, 192.0.2.54").unwrap();
        assert_eq!(resolvers.json(), Json::from("192.0.2.53,192.0.2.54"));
        assert!(super::resolvers("127.0.0.53").is_err_and(|why| why.contains("never reach")));
        assert!(super::resolvers("dns.example").is_err_and(|why| why.contains("IPv4 address")));
        assert_eq!(networks("none"), Ok(Vec::new()));
        assert_eq!(networks("10.96.1.0/12").unwrap().json(), Json::from("10.96.0.0/12"));
        assert!(
            networks("10.96.0.0").is_err() && networks("fd00::1/8").unwrap().json() == "fd00::/8"
        );
        assert_eq!(bridges("br0, br1.7").unwrap().json(), Json::from("br0,br1.7"));
        assert!(bridges("br0, a/b").is_err_and(|why| why.contains("\"a/b\"")));
        assert_eq!(rate::<10, 20>("unlimited"), Ok(None));
        assert!(rate::<10, 20>("9").is_err_and(|why| why.contains("from 10 to 20")));
        assert_eq!(rate_by_profile::<10, 20>("unlimited"), Ok(ByProfile::All(None)));
        assert_eq!(whole_by_profile::<10, 20>("profile").unwrap().json(), Json::from("profile"));
        assert!(whole_by_profile::<10, 20>("9").is_err_and(|why| why.contains("nor \"profile\"")));
    }

    #[test]
    fn a_choice_names_the_nearest() {
        assert_eq!(network_mode("isolated"), Ok(NetworkMode::Isolated));
        assert!(
            network_mode("isolate").is_err_and(|why| why.contains("did you mean \"isolated\"?"))
        );
        assert_eq!(reuse_policy("never"), Ok(ReusePolicy::Never));
        assert!(profile("custom").is_err_and(|why| why.contains("light, standard, intensive")));
    }

    #[test]
    fn paths_uris_and_names() {
        assert!(absolute_path("/var/lib/x").is_ok());
        assert!(absolute_path("x").is_err() && absolute_path("/a/../b").is_err());
        assert_eq!(listen("off"), Ok(None));
        assert_eq!(
            (first_uid("off"), first_uid("65536")),
            (Ok(FirstUid(None)), Ok(FirstUid(Some(65_536))))
        );
        assert!(first_uid("0").is_err_and(|why| why.contains("off")));
        assert!(listen("[::1]:0").is_ok_and(|at| at.is_some()));
        assert!(listen("localhost:9090").is_err_and(|why| why.contains("127.0.0.1:9090")));
        assert!(uri("qemu:///system").is_ok() && uri("qemu+unix:///system?socket=/run/x").is_ok());
        assert!(uri("localhost").is_err() && uri("://x").is_err() && uri("qemu:// /x").is_err());
        assert!(node_name("kvm-1.example").is_ok());
        assert!(
            node_name("Kvm").is_err() && node_name("a..b").is_err() && node_name("-a").is_err()
        );
    }
}
