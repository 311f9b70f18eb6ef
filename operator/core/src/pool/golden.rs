//! The golden of a pool's machines, or the reason why none can be made.

use agentvm_crds::PoolReason;

use super::Blocked;
use crate::{golden::Local, names::GoldenKey};

/// This node's knowledge of the golden that a pool names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GoldenState {
    /// The host does not answer, for this reason.
    NoHost(String),
    /// There is no `GoldenSnapshot` of that name.
    NoSnapshot,
    /// The `GoldenSnapshot` cannot be carried out, for this reason.
    Invalid(String),
    Known {
        key: GoldenKey,
        local: Local,
    },
}

/// The golden that machines can be made from.
pub fn usable(name: &str, state: GoldenState) -> Result<GoldenKey, Blocked> {
    let blocked = |reason, message: String| Err(Blocked { reason, message });
    let not_ready = |why: &str| {
        blocked(PoolReason::SnapshotNotReady, format!("GoldenSnapshot {name:?}: {why}"))
    };
    let (key, local) = match state {
        GoldenState::NoHost(why) => return blocked(PoolReason::HypervisorUnavailable, why),
        GoldenState::NoSnapshot => {
            let message = format!(
                "spec.goldenSnapshotRef.name: there is no GoldenSnapshot {name:?} in this namespace"
            );
            return blocked(PoolReason::SnapshotMissing, message);
        }
        GoldenState::Invalid(why) => return not_ready(&why),
        GoldenState::Known { key, local } => (key, local),
    };
    match local {
        Local::Ready => Ok(key),
        Local::Absent | Local::Queued => not_ready("waits to be captured on this node"),
        Local::Capturing { doing } => {
            not_ready(&format!("is being captured on this node: {doing}"))
        }
        Local::Failed { reason, message, .. } => {
            not_ready(&format!("{}: {message}", reason.as_str()))
        }
    }
}

#[cfg(test)]
mod tests {
    use agentvm_crds::GoldenReason;

    use super::*;

    fn known(local: Local) -> GoldenState {
        GoldenState::Known { key: GoldenKey::from_recorded("k"), local }
    }

    fn why(state: GoldenState) -> (PoolReason, String) {
        let Blocked { reason, message } = usable("g", state).unwrap_err();
        (reason, message)
    }

    #[test]
    fn only_a_golden_that_is_ready_makes_machines() {
        assert_eq!(usable("g", known(Local::Ready)), Ok(GoldenKey::from_recorded("k")));
        let waits = "GoldenSnapshot \"g\": waits to be captured on this node".to_owned();
        for local in [Local::Absent, Local::Queued] {
            assert_eq!(why(known(local)), (PoolReason::SnapshotNotReady, waits.clone()));
        }
    }

    #[test]
    fn every_lack_has_its_reason_and_says_what_lacks() {
        let host = why(GoldenState::NoHost("no libvirt".into()));
        assert_eq!(host, (PoolReason::HypervisorUnavailable, "no libvirt".to_owned()));
        let missing = why(GoldenState::NoSnapshot);
        assert_eq!(missing.0, PoolReason::SnapshotMissing);
        assert!(missing.1.starts_with("spec.goldenSnapshotRef.name"), "{}", missing.1);
        let invalid = why(GoldenState::Invalid("spec.source: is wrong".into()));
        assert_eq!(invalid.0, PoolReason::SnapshotNotReady);
        assert_eq!(invalid.1, "GoldenSnapshot \"g\": spec.source: is wrong");
        let busy = why(known(Local::Capturing { doing: "boots".into() }));
        assert_eq!(busy.1, "GoldenSnapshot \"g\": is being captured on this node: boots");
        let (reason, message) = (GoldenReason::SetupFailed, "step 0".to_owned());
        let failed = why(known(Local::Failed { reason, message, retry_at: None }));
        assert_eq!(failed.1, "GoldenSnapshot \"g\": SetupFailed: step 0");
    }
}
