//! The next step for a golden on this node.
//!
//! ```text
//! Absent --capture--> Capturing --> Ready
//!    ^                    |
//!    +---- after backoff -+--> Failed
//! ```

use std::time::Duration;

use agentvm_crds::GoldenReason;
use jiff::{SignedDuration, Timestamp};

/// The state of a golden on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    Absent,
    /// Captures for other snapshots are under way on this node.
    Queued,
    /// The capture is under way; the text names its step.
    Capturing {
        doing: String,
    },
    Ready,
    Failed {
        reason: GoldenReason,
        message: String,
        retry_at: Option<Timestamp>,
    },
}

/// The step to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Start a capture.
    Capture,
    /// Nothing before something changes.
    Wait,
    /// Nothing before this time.
    WaitUntil(Timestamp),
}

/// The time that a snapshot waits for a pool that names it. Both are often made together, and the
/// pool may need another layout than the default one. A capture takes long, and a node captures a
/// few goldens at a time.
const ALONE: SignedDuration = SignedDuration::from_secs(2);

/// The time until a snapshot that no pool names is captured all the same; `None` when that is now.
///
/// The API server has another clock, so a creation in the future says nothing.
pub fn patience(created: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    let age = now.duration_since(created?);
    let fresh = !age.is_negative() && age < ALONE;
    fresh.then(|| Duration::try_from(ALONE - age).unwrap_or_default())
}

/// Decides; never acts.
pub fn plan(local: &Local, now: Timestamp) -> Plan {
    match local {
        Local::Absent => Plan::Capture,
        Local::Failed { retry_at: Some(at), .. } if *at <= now => Plan::Capture,
        Local::Failed { retry_at: Some(at), .. } => Plan::WaitUntil(*at),
        Local::Queued
        | Local::Capturing { .. }
        | Local::Ready
        | Local::Failed { retry_at: None, .. } => Plan::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_snapshot_waits_a_moment_for_its_pool() {
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        let patience = |now| patience(Some(at(10_000)), at(now));
        assert_eq!(patience(10_000), Some(Duration::from_secs(2)));
        assert_eq!(patience(11_500), Some(Duration::from_millis(500)));
        assert_eq!(patience(12_000), None);
        assert_eq!(patience(9_999), None, "a clock that is behind must not delay it");
        assert_eq!(super::patience(None, at(0)), None);
    }

    #[test]
    fn a_failure_waits_for_its_time_or_for_ever() {
        let now = Timestamp::from_second(100).unwrap();
        let failed = |retry_at| Local::Failed {
            reason: GoldenReason::SetupFailed,
            message: String::new(),
            retry_at,
        };
        assert_eq!(plan(&Local::Absent, now), Plan::Capture);
        assert_eq!(plan(&Local::Ready, now), Plan::Wait);
        assert_eq!(plan(&failed(None), now), Plan::Wait);
        assert_eq!(plan(&failed(Some(now)), now), Plan::Capture);
        let later = Timestamp::from_second(101).unwrap();
        assert_eq!(plan(&failed(Some(later)), now), Plan::WaitUntil(later));
    }
}
