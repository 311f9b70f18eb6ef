//! The end of an attempt: the agent reported it, or something came in between.

use agentvm_core::run::{AttemptEnd, AttemptResult, StopCause};
use agentvm_guest_agent::{client::ClientError, protocol as wire};
use agentvm_types::report;
use tokio::time::Instant;

use crate::agent::{SessionError, Unleased};

/// The end of an attempt, with the times that its phases took.
#[derive(Debug)]
pub struct AttemptReport {
    pub result: AttemptResult,
    pub wire: Option<wire::WireResult>,
    pub acquired: Option<Instant>,
    pub acknowledged: Option<Instant>,
}

/// Why a session ended without a result.
pub enum Interrupted {
    /// The channel broke; the attempt may go on without us.
    Broken(SessionError),
    /// The attempt is over.
    Over(AttemptEnd, String),
}

impl From<SessionError> for Interrupted {
    fn from(why: SessionError) -> Self {
        Self::Broken(why)
    }
}

impl From<ClientError> for Interrupted {
    fn from(why: ClientError) -> Self {
        Self::Broken(why.into())
    }
}

/// The end of an attempt whose machine has no address. Another machine may have one.
pub fn unleased(why: Unleased) -> Interrupted {
    match why {
        Unleased::Guest(ClientError::Refused(said)) => {
            Interrupted::Over(AttemptEnd::GuestLost, said.message)
        }
        Unleased::Guest(why) => why.into(),
        Unleased::Host(why) => Interrupted::Over(AttemptEnd::GuestLost, report(&why)),
    }
}

/// The end that the agent reported. `stop`: the agent was told to stop the attempt.
pub fn attempt_end(result: &wire::WireResult, stop: Option<StopCause>) -> AttemptResult {
    let end = if result.timed_out {
        AttemptEnd::DeadlineExceeded
    } else if let Some(cause) = stop.filter(|_| result.stopped) {
        stopped(cause)
    } else if let Some(signal) = result.signal {
        AttemptEnd::Signaled(signal)
    } else if let Some(code) = result.exit_code {
        AttemptEnd::Exited(code)
    } else {
        AttemptEnd::GuestLost
    };
    let mut message = result.error.clone().unwrap_or_default();
    if result.oom_killed == Some(true) {
        "the machine ran out of memory and the kernel killed the program".clone_into(&mut message);
    }
    AttemptResult { end, started: true, message: agentvm_core::status::clip(&message, 512) }
}

/// The end of an attempt that is stopped from outside.
pub fn stopped(cause: StopCause) -> AttemptEnd {
    match cause {
        StopCause::Cancelled => AttemptEnd::Cancelled,
        StopCause::Suspended => AttemptEnd::Suspended,
        StopCause::Evicted => AttemptEnd::Evicted,
        StopCause::DiskFull => AttemptEnd::DiskFull,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(exit_code: Option<i32>, timed_out: bool, stopped: bool) -> wire::WireResult {
        let totals = wire::StreamTotals::default();
        wire::WireResult {
            nonce: wire::Nonce::from_bytes([7; 16]),
            exit_code,
            signal: None,
            timed_out,
            stopped,
            oom_killed: None,
            duration_millis: 1,
            stdout: totals,
            stderr: totals,
            error: None,
        }
    }

    #[test]
    fn only_who_was_told_to_stop_was_stopped_and_a_timeout_comes_first() {
        let end = |exit_code, timed_out, stopped, stop| {
            attempt_end(&said(exit_code, timed_out, stopped), stop).end
        };
        let cancelled = Some(StopCause::Cancelled);
        assert_eq!(
            end(Some(0), false, false, cancelled),
            AttemptEnd::Exited(0),
            "it ended before it heard of it"
        );
        assert_eq!(end(None, false, true, cancelled), AttemptEnd::Cancelled);
        assert_eq!(end(Some(3), false, true, None), AttemptEnd::Exited(3), "nobody told it to");
        assert_eq!(end(Some(0), true, true, cancelled), AttemptEnd::DeadlineExceeded);
        assert_eq!(end(None, false, false, None), AttemptEnd::GuestLost);
    }
}
