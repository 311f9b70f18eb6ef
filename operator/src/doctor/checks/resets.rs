//! Check of the reset tier: the best tier that this host allows, and the reason why a better one is
//! not possible. This is only a forecast: the operator tests a tier on a machine of each golden,
//! sabotage included, before it offers the tier.

use std::path::Path;

use super::version::Version;
use super::virt::{OLDEST_LIBVIRT, OLDEST_QEMU};
use crate::doctor::finding::{Check, Finding};
use crate::doctor::observed::Observed;

const CHECK: Check = Check {
    id: "reset-tier",
    title: "Resets",
    why: "A machine that is reset in place is ready again in tens of milliseconds. A fresh process \
          takes most of a second.",
};

pub(super) fn tier(seen: &Observed) -> Finding {
    if let Some((found, mend)) = obstacle(seen) {
        return CHECK.warning(format!("Fresh (a new process for every run): {found}"), mend);
    }
    let dir = seen.disk.state_dir.display();
    let confined = if seen.security.apparmor {
        Some(format!(
            "AppArmor is active and may deny QEMU the library. If pools say Fresh: add\n  \
             {dir}/preload/** mr,\n  {dir}/machines/*/reset/** rw,\nto \
             /etc/apparmor.d/local/abstractions/libvirt-qemu, then systemctl reload apparmor"
        ))
    } else if seen.security.selinux == Some(true) {
        Some(format!(
            "SELinux is enforcing and may deny QEMU the library. If pools say Fresh: follow the \
             finding on AppArmor and SELinux, then restorecon -R {dir}, and look into `ausearch -m \
             avc`."
        ))
    } else {
        None
    };
    let found = "InPlace (the same process, proven), after its self-test; a pool's status shows \
                 the tier in use";
    match confined {
        Some(note) => CHECK.info(found, note),
        None => CHECK.ok(found),
    }
}

/// The first reason why resets in place are not possible here, and its remedy.
fn obstacle(seen: &Observed) -> Option<(String, String)> {
    let see = |what: &str| format!("See the finding on {what}.");
    match &seen.virt.qemu {
        Err(why) => return Some((why.clone(), see("QEMU"))),
        Ok(qemu) if Version::parse(&qemu.version).is_some_and(|version| version < OLDEST_QEMU) => {
            return Some((
                format!("QEMU {} is older than {OLDEST_QEMU}", qemu.version),
                see("QEMU"),
            ));
        }
        Ok(_) => {}
    }
    let libvirt = seen.virt.libvirt.daemon.as_ref().ok();
    if let Some(version) =
        libvirt.filter(|text| Version::parse(text).is_some_and(|found| found < OLDEST_LIBVIRT))
    {
        return Some((format!("libvirt {version} is older than {OLDEST_LIBVIRT}"), see("libvirt")));
    }
    if let Err(why) = &seen.parts.preload {
        return Some((
            why.clone(),
            "Put the library beside the agentvm program or into /usr/lib/agentvm, or set \
             AGENTVM_PRELOAD to its path. In a source tree: cargo build -p agentvm-preload"
                .to_owned(),
        ));
    }
    let dir = &seen.disk.state_dir;
    unusable(dir).then(|| {
        let found = format!(
            "{} holds a character that the path of a preloaded library must not have",
            dir.display()
        );
        (
            found,
            "Choose another --state-dir or --data-dir, without spaces, colons and dollar signs."
                .to_owned(),
        )
    })
}

/// `LD_PRELOAD` separates paths by spaces and colons, and the loader expands dollar signs.
fn unusable(dir: &Path) -> bool {
    dir.to_string_lossy().contains([' ', ':', '\t', '\n', '$'])
}
