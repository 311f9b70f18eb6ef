//! An agent as a process in a folder, and the requests of tests.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use agentvm_guest_agent::protocol::{Execute, Nonce, WireResult};
use agentvm_testing::wait_until;
use tempfile::TempDir;

use crate::session::{Collected, Session, nonce, order};

pub const TOKEN: &str = "the token";

/// An agent process in a folder of its own.
pub struct Agent {
    pub process: Child,
    dir: TempDir,
}

impl Agent {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let process = Command::new(env!("CARGO_BIN_EXE_agentvm-guest"))
            .args(["--socket".as_ref(), dir.path().join("socket").as_os_str()])
            .args(["--workspace".as_ref(), dir.path().join("workspace").as_os_str()])
            .stdin(Stdio::null())
            .spawn()
            .expect("the agent starts");
        let agent = Self { process, dir };
        wait_until("the agent listens", || {
            std::os::unix::net::UnixStream::connect(agent.socket()).is_ok()
        });
        agent
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    pub fn workspace(&self) -> PathBuf {
        self.dir.path().join("workspace")
    }

    pub async fn machine(&self) -> (Session, Nonce) {
        let nonce = nonce();
        let mut client = Session::connect(&self.socket(), Some(TOKEN)).await.expect("a session");
        client.rehydrate(&nonce, TOKEN, false).await.expect("an acknowledgement of this nonce");
        (client, nonce)
    }

    /// One attempt from beginning to end.
    pub async fn run(
        &self,
        change: impl FnOnce(&mut Execute),
        argv: &[&str],
    ) -> (WireResult, Collected) {
        let (mut client, nonce) = self.machine().await;
        let mut order = order(&nonce, argv);
        change(&mut order);
        let mut collected = Collected::default();
        collected.whole(&mut client.execute(order).await).await;
        (collected.result.clone().expect("a result"), collected)
    }

    pub async fn shell(&self, script: &str) -> (WireResult, Collected) {
        self.run(|_| {}, &["/bin/sh", "-c", script]).await
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie is dead; another process may reap it.
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}
