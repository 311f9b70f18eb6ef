//! What to do next about a golden on this node.
//!
//! ```text
//! Absent --capture--> Capturing --> Ready
//!    ^                    |
//!    +---- after backoff -+--> Failed
//! ```

use agentvm_crds::GoldenReason;
use jiff::Timestamp;

/// What this node has of a golden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    Absent,
    /// Somebody else's capture is under way on this node.
    Queued,
    /// Under way; the text says what it is doing.
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

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Start a capture.
    Capture,
    /// Nothing before something changes.
    Wait,
    /// Nothing before this time.
    WaitUntil(Timestamp),
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
