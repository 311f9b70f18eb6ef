//! The reasons why a machine's agent could not be reached, or a session with it ended.

use agentvm_core::names::DomainName;
use agentvm_guest_agent::client::ClientError;
use agentvm_hypervisor::HvError;

/// The reason why a session did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("the agent in {name} did not answer within {seconds} s")]
    NoAnswer {
        name: DomainName,
        seconds: u64,
        #[source]
        last: Option<Box<SessionError>>,
    },
    #[error("the channel to the machine could not be opened")]
    Open(#[source] HvError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("no random bytes from the kernel")]
    Random(#[source] std::io::Error),
}

impl SessionError {
    /// Whether another try gets the same answer.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Client(why) => why.is_final(),
            Self::Open(why) => matches!(why, HvError::NoSuchMachine(_)),
            Self::NoAnswer { .. } | Self::Random(_) => false,
        }
    }
}

/// Why a machine did not wake.
#[derive(Debug, thiserror::Error)]
pub enum WakeError {
    #[error("the machine could not be resumed")]
    Resume(#[source] HvError),
    #[error("no session with its agent")]
    Session(#[source] SessionError),
}
