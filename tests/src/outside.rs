//! An operator in a process of its own, which tests can kill.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use agentvm_hypervisor::Step;

use crate::{Error, World, agent_binary};

/// Names the step before which `fake-operator` ends itself, as JSON.
pub const DIE_AT: &str = "AGENTVM_DIE_AT";
/// The number, from 1, of the resume that `fake-operator` never carries out.
pub const HANG_AT: &str = "AGENTVM_HANG_AT_RESUME";

/// The name of the node, and the duration of its Lease.
pub const NODE_NAME: &str = "AGENTVM_NODE_NAME";
pub const LEASE_SECONDS: &str = "AGENTVM_LEASE_SECONDS";

/// The process is killed when this value goes out of scope.
#[derive(Debug)]
pub struct Outside(Child);

impl Outside {
    /// Starts `binary` (`fake-operator`) on the world's machines and namespace.
    pub fn start(binary: &Path, world: &World) -> Result<Self, Error> {
        Self::begin(binary, world, None)
    }

    /// Starts it so that the `nth` resume of a machine never ends.
    pub fn start_and_hang_at_resume(binary: &Path, world: &World, nth: u64) -> Result<Self, Error> {
        Self::begin(binary, world, Some((HANG_AT, nth.to_string())))
    }

    /// Starts it so that it ends, as if killed, before it takes this step for the first time.
    pub fn start_and_die_at(binary: &Path, world: &World, step: Step) -> Result<Self, Error> {
        Self::begin(binary, world, Some((DIE_AT, serde_json::to_string(&step)?)))
    }

    /// Starts it in a mount namespace of its own, in which the folder of the runs is a small file
    /// system in memory: of 256 KiB and 64 files.
    pub fn start_on_a_small_disk(binary: &Path, world: &World) -> Result<Self, Error> {
        std::fs::create_dir_all(world.folder.join("runs"))?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-euc"]);
        let mount = "mount -t tmpfs -o size=256k,nr_inodes=64,mode=700 small \"$1\"/runs";
        command.arg(format!("{mount}; shift; exec \"$@\""));
        command.arg("sh").arg(&world.folder).arg(binary);
        Self::begin_as(command, world)
    }

    /// A path as the process sees it.
    pub fn sees(&self, path: &Path) -> PathBuf {
        let own = format!("/proc/{}/root", self.0.id());
        Path::new(&own).join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Sets the number of descriptors that the process may have open.
    pub fn limit_descriptors(&self, limit: usize) -> Result<(), Error> {
        let (pid, limit) = (self.0.id().to_string(), format!("--nofile={limit}:"));
        run(Command::new("prlimit").args(["--pid", &pid, &limit]))
    }

    /// The number of descriptors that the process has open.
    pub fn open_descriptors(&self) -> Result<usize, Error> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.0.id()))?.count())
    }

    /// Makes the small disk read-only, as a kernel does with a disk that fails; or writable again.
    pub fn remount_the_small_disk(&self, world: &World, how: &str) -> Result<(), Error> {
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.0.id());
        let mut command = Command::new("nsenter");
        command.args([&namespace, "mount", "-o", &format!("remount,{how}")]);
        run(command.arg(world.folder.join("runs")))
    }

    /// Starts it as a node of this name with a Lease of this duration.
    pub fn start_as(binary: &Path, world: &World, name: &str, lease: u64) -> Result<Self, Error> {
        Self::begin(
            binary,
            world,
            [(NODE_NAME, name.to_owned()), (LEASE_SECONDS, lease.to_string())],
        )
    }

    fn begin<'a>(
        binary: &Path,
        world: &World,
        variables: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Result<Self, Error> {
        let mut command = Command::new(binary);
        command.envs(variables);
        Self::begin_as(command, world)
    }

    fn begin_as(mut command: Command, world: &World) -> Result<Self, Error> {
        let log =
            File::options().create(true).append(true).open(world.folder.join("operator.log"))?;
        command.arg(world.bench.kubeconfig()).arg(&world.bench.namespace);
        command.arg(&world.folder).arg(agent_binary()).stdin(Stdio::null()).stderr(log);
        Ok(Self(command.spawn()?))
    }

    /// Has it ended by itself?
    pub fn has_ended(&mut self) -> Result<bool, Error> {
        Ok(self.0.try_wait()?.is_some())
    }

    /// Kills it like `kill -9`: no code of it can object.
    pub fn kill(mut self) -> Result<(), Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

/// Runs a program to its end, which has to be a success.
fn run(command: &mut Command) -> Result<(), Error> {
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
