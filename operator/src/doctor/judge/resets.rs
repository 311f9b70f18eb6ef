//! How machines will get back to their golden state here, and why not by a better way. What this finds possible the operator
//! still tests on a machine of each golden, sabotage included, before it offers it.

use std::path::Path;

use super::version::{LIBVIRT_OLDEST, QEMU_FAST, Version};
use crate::doctor::finding::{Check, Finding};
use crate::doctor::observed::Observed;

const CHECK: Check = Check {
    id: "reset-tier",
    title: "Resets",
    why: "A machine that is reset in place is ready again in tens of milliseconds; a fresh process takes most of a second.",
};

pub(super) fn tier(seen: &Observed) -> Finding {
    if let Some((found, mend)) = obstacle(seen) {
        return CHECK.warning(format!("Fresh (a new process for every run): {found}"), mend);
    }
    let dir = seen.disk.state_dir.display();
    let confined = if seen.security.apparmor {
        Some(format!(
            "AppArmor is active and may deny QEMU the library. If pools say Fresh: add\n  {dir}/preload/** mr,\n  \
             {dir}/machines/*/reset/** rw,\nto /etc/apparmor.d/local/abstractions/libvirt-qemu, then systemctl reload apparmor"
        ))
    } else if seen.security.selinux == Some(true) {
        Some(format!(
            "SELinux is enforcing and may deny QEMU the library. If pools say Fresh: restorecon -R {dir} after the rule of \
             the finding above, and look into `ausearch -m avc`."
        ))
    } else {
        None
    };
    let found = "InPlace (the same process, proven), once its self-test has passed; a pool's status says which";
    match confined {
        Some(note) => CHECK.info(found, note),
        None => CHECK.ok(found),
    }
}

/// The first thing that keeps resets in place from being possible, and what to do about it.
fn obstacle(seen: &Observed) -> Option<(String, String)> {
    let see = |what: &str| format!("See the finding on {what}.");
    match &seen.virt.qemu {
        Err(why) => return Some((why.clone(), see("QEMU"))),
        Ok(qemu) if Version::parse(&qemu.version).is_some_and(|version| version < QEMU_FAST) => {
            return Some((format!("QEMU {} is older than {QEMU_FAST}", qemu.version), see("QEMU")));
        }
        Ok(_) => {}
    }
    let libvirt = seen.virt.libvirt.daemon.as_ref().ok();
    if let Some(version) =
        libvirt.filter(|text| Version::parse(text).is_some_and(|found| found < LIBVIRT_OLDEST))
    {
        return Some((format!("libvirt {version} is older than {LIBVIRT_OLDEST}"), see("libvirt")));
    }
    if let Err(why) = &seen.parts.preload {
        return Some((
            why.clone(),
            "Put the library beside the agentvm program or into /usr/lib/agentvm, or name it in AGENTVM_PRELOAD. In a \
             source tree: cargo build -p agentvm-preload"
                .to_owned(),
        ));
    }
    let dir = &seen.disk.state_dir;
    unusable(dir).then(|| {
        let found =
            format!("{} holds a character that a preloaded library's path can't", dir.display());
        (
            found,
            "Choose another --state-dir or --data-dir, without spaces, colons and dollar signs."
                .to_owned(),
        )
    })
}

/// `LD_PRELOAD` separates by these.
fn unusable(dir: &Path) -> bool {
    dir.to_string_lossy().contains([' ', ':', '\t', '\n', '$'])
}
