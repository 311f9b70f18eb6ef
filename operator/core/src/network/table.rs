//! The names of one installation's rules: derived, so that several installations share a host.

use ipnet::Ipv6Net;

use super::subnet::ula;
use crate::names::{InstanceId, short_hash};

/// The nftables table of one installation, in the families `bridge` and `inet`, and other things
/// that are named after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    name: String,
    tap_prefix: String,
    log_group: u16,
    ula: Ipv6Net,
}

impl Table {
    pub fn of(instance: &InstanceId) -> Self {
        let id = instance.as_str();
        let group = u16::from_str_radix(&short_hash(&["nflog", id], 4), 16).unwrap_or_default();
        Self {
            name: format!("agentvm_{id}"),
            tap_prefix: format!("avm{}-", id.chars().take(4).collect::<String>()),
            // People choose small numbers by hand.
            log_group: 1024 + group % (u16::MAX - 1024),
            ula: ula(instance),
        }
    }

    /// Name of the table in both families.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The beginning of the names of this installation's taps. No other tap has it.
    pub fn tap_prefix(&self) -> String {
        self.tap_prefix.clone()
    }

    /// Where machines that have IPv6 have their addresses.
    pub fn ula(&self) -> Ipv6Net {
        self.ula
    }

    /// The NFLOG group that verdicts are told to.
    pub fn log_group(&self) -> u16 {
        self.log_group
    }
}
