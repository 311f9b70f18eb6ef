//! The commands of a machine's task, and their way to it.

use std::sync::Arc;

use agentvm_core::{
    machine::{self, Admission},
    names::DomainName,
};
use tokio::sync::mpsc;

use super::{AttemptSpec, Inner, board::SlotKey};

/// A command for a machine's task.
pub type MachineCommand = machine::MachineCommand<Box<AttemptSpec>>;

/// The commands that arrive at a machine.
#[derive(Debug)]
pub struct Inbox {
    pub inner: Arc<Inner>,
    pub key: SlotKey,
    pub machine: DomainName,
    pub commands: mpsc::UnboundedReceiver<MachineCommand>,
}

impl Inbox {
    /// The next command that the machine's life admits. An accepted Execute or Stop has changed the
    /// life already. `None` means that the entry is gone from the board, and no caller can send any
    /// more.
    ///
    /// This is safe to cancel: no command is lost.
    pub async fn next(&mut self) -> Option<MachineCommand> {
        loop {
            let command = self.commands.recv().await?;
            let admission = self.inner.board().obey(&self.key, &command);
            match admission {
                Admission::Accept => return Some(command),
                Admission::Ignore => {}
                Admission::Deny(why) => {
                    tracing::warn!(
                        machine = %self.machine,
                        command = command.name(),
                        "a command was denied: {why}"
                    );
                }
            }
        }
    }

    /// Notes a command that the board accepted in a state in which this task does not expect it.
    /// Board and task disagree about the state then, which is a defect.
    pub fn unexpected(&self, command: &MachineCommand) {
        tracing::error!(
            machine = %self.machine,
            command = command.name(),
            "a command does not fit what the machine does"
        );
    }
}
