//! The environment variables of a command: a few of ours, and those of its run.

use agentvm_guest_agent::protocol::{Blob, Execute, RunAs};

use super::{Folder, Platform};
use crate::users::{AGENT_HOME, AGENT_NAME};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The folders of the home that package managers install programs into: pip and npm, cargo, go.
const BINARIES: [&str; 3] = [".local/bin", ".cargo/bin", "go/bin"];

impl Platform {
    pub(super) fn environment(&self, order: &Execute) -> Vec<(String, Blob)> {
        let (user, home) = match (self, order.run_as) {
            (Self::Machine(_), RunAs::Agent) => (AGENT_NAME.to_owned(), AGENT_HOME.to_owned()),
            (Self::Machine(_), RunAs::Root) => ("root".to_owned(), "/root".to_owned()),
            (Self::Folder(_), _) => Folder::user(),
        };
        let base = [
            ("PATH", path(&home)),
            ("HOME", home.clone()),
            ("USER", user.clone()),
            ("LOGNAME", user),
            ("LANG", "C.UTF-8".to_owned()),
            ("AGENTVM", "1".to_owned()),
        ];
        let ours = base.into_iter().chain(installers(order.run_as, &home));
        let ours = ours.map(|(name, value)| (name.to_owned(), value.into_bytes()));
        let asked = order.env.iter().map(|var| (var.name.clone(), var.value.expose().to_vec()));
        ours.chain(asked).map(|(name, value)| (name, Blob(value))).collect()
    }
}

fn path(home: &str) -> String {
    format!("{}:{PATH}", BINARIES.map(|folder| format!("{home}/{folder}")).join(":"))
}

/// Package managers install what a run asks for: the machine is thrown away, so they protect no
/// system. Of the users only root may write to `/usr/local`.
fn installers(run_as: RunAs, home: &str) -> Vec<(&'static str, String)> {
    let mut variables = vec![("PIP_BREAK_SYSTEM_PACKAGES", "1".to_owned())];
    match run_as {
        RunAs::Agent => variables.push(("NPM_CONFIG_PREFIX", format!("{home}/.local"))),
        RunAs::Root => variables.push(("PIP_ROOT_USER_ACTION", "ignore".to_owned())),
    }
    variables
}
