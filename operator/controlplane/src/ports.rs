//! Chooses the ports to listen on. The last ports are used again if they are free, so that copies
//! of a kubeconfig keep working. Otherwise the preferred port is used, or else any free port.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::private_files;

/// Lies below the range from which the kernel takes source ports of outgoing connections. Such a
/// connection could hold our port while a child is restarted.
const SEARCH: std::ops::Range<u16> = 20_000..30_000;
const MOST_TRIED: u16 = 1_000;

/// The ports of one control plane, and the preference at the time of the choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    pub api_server: u16,
    pub etcd: u16,
    preferred: Option<u16>,
}

impl Ports {
    /// The last ports. `None` if they are missing or can't be read, because they are only a
    /// convenience.
    pub fn load(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    pub fn save(self, path: &Path) -> io::Result<()> {
        private_files::write_private(path, &serde_json::to_vec(&self)?)
    }

    /// Chooses ports for which `is_free` holds. `seed` spreads the search of control planes that
    /// choose at one time.
    pub fn choose(
        last: Option<Self>,
        preferred: Option<u16>,
        seed: u32,
        is_free: impl Fn(u16) -> bool,
    ) -> Option<Self> {
        let last = last.filter(|last| last.preferred == preferred);
        let pick = |wanted: [Option<u16>; 2], taken: Option<u16>| {
            let searched = searched(seed).map(Some);
            wanted
                .into_iter()
                .chain(searched)
                .flatten()
                .find(|port| Some(*port) != taken && is_free(*port))
        };
        let api_server = pick([last.map(|last| last.api_server), preferred], None)?;
        let etcd = pick([last.map(|last| last.etcd), None], Some(api_server))?;
        Some(Self { api_server, etcd, preferred })
    }
}

fn searched(seed: u32) -> impl Iterator<Item = u16> {
    let width = u32::from(SEARCH.end - SEARCH.start);
    let start = seed.wrapping_mul(7_919) % width;
    (0..MOST_TRIED).filter_map(move |step| {
        u16::try_from((start + u32::from(step)) % width).ok().map(|offset| SEARCH.start + offset)
    })
}

/// Whether a server could listen on this port of loopback now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ports_are_kept_while_they_are_free() {
        let last = Ports::choose(None, Some(6443), 1, |port| port != 6443).unwrap();
        assert_ne!(last.api_server, 6443);
        assert_eq!(Ports::choose(Some(last), Some(6443), 2, |_| true), Some(last));
    }

    #[test]
    fn a_preferred_port_is_taken_and_another_wish_forgets_the_last() {
        let first = Ports::choose(None, Some(6443), 1, |_| true).unwrap();
        assert_eq!(first.api_server, 6443);
        let second = Ports::choose(Some(first), Some(7443), 1, |_| true).unwrap();
        assert_eq!(second.api_server, 7443);
    }

    #[test]
    fn two_servers_never_get_one_port() {
        for seed in 0..10_000 {
            let ports = Ports::choose(None, None, seed, |_| true).unwrap();
            assert_ne!(ports.api_server, ports.etcd);
            assert!(SEARCH.contains(&ports.api_server) && SEARCH.contains(&ports.etcd));
        }
    }

    #[test]
    fn a_port_that_someone_listens_on_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
    }

    #[test]
    fn a_host_without_a_free_port_ends_the_search() {
        assert_eq!(Ports::choose(None, Some(6443), 1, |_| false), None);
    }
}
