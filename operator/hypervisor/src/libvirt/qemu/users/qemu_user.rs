//! The user of QEMU on this host.

use std::fs;

use crate::HvError;

/// The user and group of QEMU processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QemuUser {
    pub uid: u32,
    pub gid: u32,
}

impl QemuUser {
    /// From libvirt's configuration, else the user that the distribution's package makes.
    pub fn find() -> Result<Self, HvError> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        find(&read("/etc/libvirt/qemu.conf"), &read("/etc/passwd"), &read("/etc/group")).ok_or_else(
            || HvError::Refused {
                what: "find the user that QEMU runs as".to_owned(),
                detail:
                    "neither libvirt-qemu nor qemu is a user here; install libvirt's QEMU driver, \
                     or set user and group in /etc/libvirt/qemu.conf"
                        .to_owned(),
            },
        )
    }
}

fn find(conf: &str, passwd: &str, group: &str) -> Option<QemuUser> {
    let row = |table: &str, name: &str| -> Option<Vec<String>> {
        let found = table.lines().find(|line| line.split(':').next() == Some(name))?;
        Some(found.split(':').map(str::to_owned).collect())
    };
    let id = |name: &str, table: &str| -> Option<u32> {
        let plain = name.trim_start_matches('+');
        plain.parse().ok().or_else(|| row(table, plain)?.get(2)?.parse().ok())
    };
    let user = match setting(conf, "user") {
        Some(name) => name,
        None => ["libvirt-qemu", "qemu"]
            .into_iter()
            .find(|name| row(passwd, name).is_some())?
            .to_owned(),
    };
    let uid = id(&user, passwd)?;
    let configured = setting(conf, "group").and_then(|name| id(&name, group));
    // On Debian, the user's primary group is kvm; files belong to the group with the user's name.
    let own = || id(&user, group).or_else(|| row(passwd, &user)?.get(3)?.parse().ok());
    Some(QemuUser { uid, gid: configured.or_else(own)? })
}

/// `name = "value"` of libvirt's configuration syntax.
fn setting(conf: &str, name: &str) -> Option<String> {
    let value = conf
        .lines()
        .find_map(|line| line.trim().strip_prefix(name)?.trim_start().strip_prefix('='))?;
    Some(value.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0::/root:/bin/sh\nlibvirt-qemu:x:64055:993::/:/sbin/nologin\nother:x:7:8::/:/x\n";
    const GROUP: &str = "kvm:x:993:\nlibvirt-qemu:x:64055:\n";

    #[test]
    fn the_user_is_the_configured_one_or_the_distribution_s() {
        assert_eq!(
            find("#user = \"x\"\n", PASSWD, GROUP),
            Some(QemuUser { uid: 64055, gid: 64055 })
        );
        assert_eq!(
            find("user = \"other\"\ngroup = \"kvm\"", PASSWD, GROUP),
            Some(QemuUser { uid: 7, gid: 993 })
        );
        assert_eq!(
            find("user = \"+5\"\ngroup = \"+6\"", PASSWD, GROUP),
            Some(QemuUser { uid: 5, gid: 6 })
        );
        assert_eq!(find("", "root:x:0:0::/:/x", GROUP), None);
    }
}
