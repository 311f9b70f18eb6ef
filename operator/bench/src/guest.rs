//! The bench's conversations with an agent. They use the product's session and messages.

use std::time::Duration;

use agentvm_core::names::DomainName;
use agentvm_guest_agent::protocol::{Execute, RunAs};
use agentvm_hypervisor::{Hypervisor, MachineRecord};
use jiff::Timestamp;
use tokio::time::Instant;

use super::error::{BenchError, step};
use agentvm_operator::{
    agent::{Session, program, reach, rehydrate},
    clock::Clock,
    network::Network,
};

/// The longest step here is a boot without KVM.
pub const PATIENCE: Duration = Duration::from_mins(4);
/// The traces of a run in its machine: about 20 MiB of memory.
pub const LOAD: &str = "dd if=/dev/zero of=/dev/shm/load bs=1M count=20 2>/dev/null";

/// A command that has succeeded.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    /// From EXECUTE to its acknowledgement.
    pub acknowledged: Duration,
}

/// The agent's first answer after a boot, a restore, a revert or a reset. The agent has no token
/// yet.
pub async fn hello(hv: &dyn Hypervisor, name: &DomainName) -> Result<Session, BenchError> {
    let opened = reach(hv, name, None, &Clock::system(), PATIENCE).await;
    Ok(opened.map_err(step(format!("reach the agent in {name}")))?.0)
}

/// Gives the machine an identity and runs a shell command in it as root. The command must succeed.
pub async fn run(
    session: &mut Session,
    network: &Network,
    record: &MachineRecord,
    share: bool,
    command: &str,
) -> Result<Ran, BenchError> {
    identify(session, network, record, share).await?;
    execute(session, record, &["/bin/sh", "-c", command]).await
}

/// Gives the machine its name, nonce and network, like pools do.
async fn identify(
    session: &mut Session,
    network: &Network,
    record: &MachineRecord,
    share: bool,
) -> Result<(), BenchError> {
    let guest_network = network.guest_network(record);
    let given = rehydrate(session, record, guest_network, share, Timestamp::now()).await;
    given.map_err(step("give the machine its identity"))?;
    network.connect(record).await.map_err(step("connect the machine"))
}

/// Gives the machine an identity and runs a rehearsal in it.
pub async fn warm(
    session: &mut Session,
    network: &Network,
    record: &MachineRecord,
) -> Result<(), BenchError> {
    identify(session, network, record, true).await?;
    session.warm(PATIENCE).await.map_err(step("warm a machine"))
}

/// The time limit of a command.
const TIMEOUT: Duration = Duration::from_mins(10);

/// EXECUTE to RESULT, in a machine that holds the nonce of `record`.
pub async fn execute(
    session: &mut Session,
    record: &MachineRecord,
    argv: &[&str],
) -> Result<Ran, BenchError> {
    execute_within(session, record, argv, TIMEOUT).await
}

/// Like [`execute`], for a command that runs as long as its machine.
pub async fn execute_endless(
    session: &mut Session,
    record: &MachineRecord,
    argv: &[&str],
) -> Result<Ran, BenchError> {
    execute_within(session, record, argv, Duration::ZERO).await
}

/// A limit of zero means no timeout.
async fn execute_within(
    session: &mut Session,
    record: &MachineRecord,
    argv: &[&str],
    timeout: Duration,
) -> Result<Ran, BenchError> {
    let nonce = record.nonce.clone();
    let words = argv.iter().map(|&argument| argument.to_owned()).collect();
    let message = Execute {
        cwd: Some("/".to_owned()),
        run_as: RunAs::Root,
        timeout_millis: u64::try_from(timeout.as_millis()).unwrap_or(0),
        grace_millis: 1000,
        ..program(nonce, words, Timestamp::now()).map_err(step("get random bytes"))?
    };
    let began = Instant::now();
    let taken = session.execute(message, PATIENCE).await;
    let mut execution = taken.map_err(step("execute a command"))?;
    let acknowledged = began.elapsed();
    let result = execution.collect(|_| {}).await.map_err(step("follow a command"))?;
    match result.exit_code {
        Some(0) => Ok(Ran { acknowledged }),
        other => Err(BenchError::Found(format!("{argv:?} in a machine ended with {other:?}"))),
    }
}
