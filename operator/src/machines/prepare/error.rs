//! The reasons why a machine could not be prepared, and what they say about its tier and its state.

use agentvm_crds::PoolReason;
use agentvm_guest_agent::client::ClientError;
use agentvm_hypervisor::{HvError, Tier};

use crate::agent::{SessionError, Unleased};

/// Why a machine could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("the machine could not be created")]
    Create(#[source] HvError),
    #[error("the machine could not be brought back to its golden state")]
    Reset(#[source] HvError),
    #[error("the machine could not be resumed or parked")]
    Power(#[source] HvError),
    #[error("no session with its agent")]
    Session(#[source] SessionError),
    #[error("what its agent says is not what the golden's said: {0}")]
    Guest(String),
    #[error("its agent did not confirm that it took over its new identity")]
    Rehydrate(#[source] SessionError),
    #[error("its agent did not warm it")]
    Warm(#[source] ClientError),
    #[error("the machine has no network")]
    Network(#[source] HvError),
    #[error("the machine has no address on the bridge that it is plugged into")]
    Lease(#[source] Unleased),
    #[error("its proof could not be written down")]
    Evidence(#[source] serde_json::Error),
    #[error("the operator stops")]
    Stopping,
}

impl PrepareError {
    /// The proof that the machine is not in its golden state. All other errors say nothing about
    /// its state.
    pub fn not_proven(&self) -> Option<String> {
        match self {
            Self::Reset(HvError::NotProven { proof, .. }) => {
                Some(proof.failure().unwrap_or_default())
            }
            Self::Guest(why) => Some(format!("guest: {why}")),
            _ => None,
        }
    }

    /// Why the machine cannot be reset, if nothing else is wrong. A run can do that to its own
    /// machine, so it says nothing about the tier.
    pub fn not_resettable(&self) -> Option<&str> {
        match self {
            Self::Reset(HvError::NotResettable { why, .. }) => Some(why),
            _ => None,
        }
    }

    /// Whether the machine of this name belongs to another owner.
    pub fn not_ours(&self) -> bool {
        matches!(self, Self::Create(HvError::NotOurs { .. }))
    }

    /// The reason that the pool's status gives.
    pub fn reason(&self) -> PoolReason {
        match self {
            Self::Network(HvError::NoCapacity { .. }) => PoolReason::NoCapacity,
            Self::Network(_)
            | Self::Lease(_)
            | Self::Create(HvError::NetworkUnavailable { .. }) => PoolReason::NetworkUnavailable,
            _ => PoolReason::CreateFailed,
        }
    }

    /// Whether the error says something about the tier that was used. A host that is gone or full
    /// says nothing about it, nor does a machine in the state in which a run left it.
    pub fn speaks_against(&self, tier: Tier) -> bool {
        match self {
            Self::Create(why) => tier == Tier::Fresh && why.is_refusal(),
            Self::Reset(HvError::NotResettable { .. } | HvError::NetworkUnavailable { .. })
            | Self::Network(_)
            | Self::Lease(_)
            | Self::Evidence(_)
            | Self::Stopping => false,
            Self::Reset(why) | Self::Power(why) => {
                tier == Tier::InPlace
                    && !matches!(why, HvError::Unavailable { .. } | HvError::NoCapacity { .. })
            }
            Self::Session(_) | Self::Guest(_) | Self::Rehydrate(_) | Self::Warm(_) => {
                tier == Tier::InPlace
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use agentvm_core::names::DomainName;
    use agentvm_guest_agent::protocol::{ErrorCode, ErrorReport};

    use super::*;

    #[test]
    fn what_a_run_did_to_its_machine_says_nothing_about_the_way() {
        let name = DomainName::from_recorded("vm");
        let full =
            PrepareError::Reset(HvError::NotResettable { name, why: "its disk has grown".into() });
        assert_eq!((full.not_resettable(), full.not_proven()), (Some("its disk has grown"), None));
        assert!(!full.speaks_against(Tier::InPlace));
        let refused =
            PrepareError::Reset(HvError::Refused { what: "reset it".into(), detail: "no".into() });
        assert!(refused.not_resettable().is_none() && refused.speaks_against(Tier::InPlace));
    }

    #[test]
    fn what_a_network_lacks_says_nothing_about_the_way_either() {
        let refused = ClientError::Refused(ErrorReport {
            code: ErrorCode::Failed,
            message: "no DHCP server".into(),
            nonce: None,
            challenge: None,
        });
        let unleased = PrepareError::Lease(Unleased::Guest(refused));
        assert_eq!(unleased.reason(), PoolReason::NetworkUnavailable);
        assert!(!unleased.speaks_against(Tier::InPlace) && !unleased.speaks_against(Tier::Fresh));
    }
}
