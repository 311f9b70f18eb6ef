//! The environment variables of a command: a few of ours, and those of its run.

use agentvm_guest_agent::protocol::{Execute, RunAs};

use super::{Folder, Platform};
use crate::users::{AGENT_HOME, AGENT_NAME};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Platform {
    pub(super) fn environment(&self, order: &Execute) -> Vec<(String, String)> {
        let (user, home) = match (self, order.run_as) {
            (Self::Machine(_), RunAs::Agent) => (AGENT_NAME.to_owned(), AGENT_HOME.to_owned()),
            (Self::Machine(_), RunAs::Root) => ("root".to_owned(), "/root".to_owned()),
            (Self::Folder(_), _) => Folder::user(),
        };
        let base = [
            ("PATH", PATH.to_owned()),
            ("HOME", home),
            ("USER", user.clone()),
            ("LOGNAME", user),
            ("LANG", "C.UTF-8".to_owned()),
            ("AGENTVM", "1".to_owned()),
        ];
        let asked = order.env.iter().map(|var| (var.name.clone(), var.value.expose().to_owned()));
        base.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(asked).collect()
    }
}
