//! Private network namespaces of this process. They end with the process at any death.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Output, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::oneshot;

use crate::error::{BenchError, step};

/// A namespace. It exists as long as this value, or as a thread in it.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// A namespace with only a loopback device, which is down.
    pub fn new() -> Result<Self, BenchError> {
        Self::make().map_err(step("make a network namespace"))
    }

    fn make() -> io::Result<Self> {
        // `unshare` is unsafe in a process with threads. Therefore another process makes the
        // namespace, and ends when this process holds it.
        let mut other = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut there = [0];
        let said = other.stdout.take().map_or(Ok(()), |mut stdout| stdout.read_exact(&mut there));
        let file = File::open(format!("/proc/{}/ns/net", other.id()));
        let _ = other.kill();
        other.wait()?;
        said.map_err(|_| io::Error::other("unshare --net failed: only root may use it"))?;
        Ok(Self(file?))
    }

    /// A path by which `ip` finds the namespace from any other one.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Does a job on a thread in the namespace. The thread ends with the job. Its sockets, programs
    /// and threads stay.
    pub async fn within<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, BenchError> + Send + 'static,
    ) -> Result<T, BenchError> {
        let namespace = self.0.try_clone().map_err(step("keep a network namespace"))?;
        let (sender, receiver) = oneshot::channel();
        let inside = move || {
            let kind = Some(LinkNameSpaceType::Network);
            let entered = move_into_link_name_space(namespace.as_fd(), kind)
                .map_err(step("enter a network namespace"));
            let _ = sender.send(entered.and_then(|()| job()));
        };
        std::thread::Builder::new()
            .name("namespace".to_owned())
            .spawn(inside)
            .map_err(step("start a thread"))?;
        receiver.await.map_err(step("hear of a thread in a network namespace"))?
    }

    /// Runs commands of `ip`, one on each line.
    pub async fn ip(&self, commands: String) -> Result<(), BenchError> {
        self.within(move || ip(&commands)).await
    }
}

/// Runs commands of `ip` in the namespace of the calling thread.
pub fn ip(commands: &str) -> Result<(), BenchError> {
    let Output { status, stderr, .. } =
        fed(Command::new("ip").args(["-batch", "-"]), commands).map_err(step("run ip"))?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&stderr);
    Err(BenchError::Found(format!("ip: {}; its commands were:\n{commands}", said.trim())))
}

/// Runs a program with this text as its input.
pub fn fed(command: &mut Command, text: &str) -> io::Result<Output> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes())?;
    }
    child.wait_with_output()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[cfg_attr(
        not(feature = "host-tests"),
        ignore = "needs root and programs of the host: make test-host"
    )]
    async fn it_is_another_place_and_goes_with_the_value() {
        let (here, other) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        let peer = other.path();
        here.ip(format!(
            "link add one type veth peer name two netns {peer}\naddr add 203.0.113.9/24 dev one"
        ))
        .await
        .unwrap();
        other.ip("link show two".to_owned()).await.unwrap();
        let why = other.ip("link show one".to_owned()).await.unwrap_err().to_string();
        assert!(why.contains("does not exist") && why.contains("link show one"), "{why}");
        let free =
            here.within(|| Ok(std::net::TcpListener::bind("203.0.113.9:1").is_ok())).await.unwrap();
        assert!(free && std::net::TcpListener::bind("203.0.113.9:1").is_err());
        let file = here.0.metadata().unwrap();
        let inode = std::os::unix::fs::MetadataExt::ino(&file);
        assert_ne!(
            inode,
            std::os::unix::fs::MetadataExt::ino(&std::fs::metadata("/proc/self/ns/net").unwrap())
        );
    }
}
