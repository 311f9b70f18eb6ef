//! Checks of the parts that a build makes: the control plane's programs and the guest image.

use crate::doctor::finding::{Check, Finding};
use crate::doctor::observed::Parts;

pub(super) fn control_plane(parts: &Parts) -> Finding {
    const CHECK: Check = Check {
        id: "control-plane",
        title: "Control plane",
        why: "`agentvm standalone` starts etcd, kube-apiserver and kube-controller-manager. \
              `agentvm operator` uses a cluster's and needs no programs of its own.",
    };
    match &parts.control_plane {
        Ok(dir) => CHECK.ok(dir.display().to_string()),
        Err(why) => {
            let mend = why.lines().skip(1).collect::<Vec<_>>().join("\n");
            CHECK.warning(why.lines().next().unwrap_or_default().to_owned(), mend)
        }
    }
}

pub(super) fn guest_image(parts: &Parts) -> Finding {
    const CHECK: Check = Check {
        id: "guest-image",
        title: "Guest image",
        why: "Every golden is made from it: root file system, kernel, and the agent that executes \
              runs.",
    };
    match &parts.image {
        Ok(image) => CHECK.ok(format!(
            "{}, agent {}, {}",
            image.description.name,
            image.description.agent_version,
            image.dir.display()
        )),
        Err(why) => CHECK.error(
            why.clone(),
            "make image    (takes a minute or two; needs root and a Debian mirror)",
        ),
    }
}
