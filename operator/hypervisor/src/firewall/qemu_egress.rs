//! A rule of the installation's table that keeps machines' QEMU processes from every network. Hosts
//! without a machine that has a network get it too.

use agentvm_core::network::rules;

use super::Firewall;
use crate::locks::lock;

impl Firewall {
    /// Before a machine without a network starts; for other machines, [`Self::guard`] does it. Such
    /// a machine needs no nft, so a missing nft stops nothing: one warning says it. The rule is
    /// written each time, because no thread watches it here.
    pub fn confine_qemu(&self) {
        let Some(users) = self.rules.qemu_users() else { return };
        let state = lock(&self.state);
        if state.made {
            return;
        }
        if let Err(why) = self
            .rules
            .nft()
            .run("keep QEMU from the host's network", &rules::write_qemu_only(self.table(), users))
        {
            self.unconfined.call_once(|| {
                tracing::warn!(
                    error = &why as &dyn std::error::Error,
                    "a QEMU that was taken over could use the host's network: the rule against it \
                        can't be set"
                );
            });
        }
    }
}
