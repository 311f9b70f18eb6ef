//! The default name servers of machines: those of their host.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

/// The files where a host names its servers. The first file that names a server which a machine can
/// ask is used. With systemd-resolved, the second file names only the host's own loopback.
#[derive(Clone, Debug)]
pub struct ResolverFiles(pub Vec<PathBuf>);

impl Default for ResolverFiles {
    fn default() -> Self {
        Self(["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"].map(PathBuf::from).to_vec())
    }
}

/// The first name server of this host that isn't the host itself.
pub fn host_resolver(files: &ResolverFiles) -> Option<Ipv4Addr> {
    files.0.iter().find_map(|file| named_in(file))
}

fn named_in(file: &Path) -> Option<Ipv4Addr> {
    let text = std::fs::read_to_string(file).ok()?;
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let mut addresses = servers.filter_map(|rest| rest.trim().parse::<Ipv4Addr>().ok());
    addresses.find(|address| {
        !address.is_loopback() && !address.is_unspecified() && !address.is_link_local()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_loopback_is_nobody_that_a_machine_can_ask() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let stub = file("stub", "# systemd\nnameserver 127.0.0.53\noptions edns0\n");
        let real = file(
            "real",
            "search example\nnameserver ::1\nnameserver 0.0.0.0\nnameserver\t203.0.113.53\n",
        );
        let missing = folder.path().join("missing");
        let found = |files: &[&PathBuf]| {
            host_resolver(&ResolverFiles(files.iter().copied().cloned().collect()))
        };
        assert_eq!(found(&[&missing, &stub, &real]), Some(Ipv4Addr::new(203, 0, 113, 53)));
        assert_eq!(found(&[&stub, &missing]), None);
    }
}
