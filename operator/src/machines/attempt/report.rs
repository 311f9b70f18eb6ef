//! The end of an attempt: the agent reported it, or something came in between.

use agentvm_core::run::{AttemptEnd, AttemptResult, StopCause};
use agentvm_guest_agent::{client::ClientError, protocol as wire};
use agentvm_types::report;
use tokio::time::Instant;

use super::Progress;
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

/// An answer is no broken channel: a refusal ends the attempt, and so does a message that cannot be
/// sent. This machine would give this answer again.
impl From<SessionError> for Interrupted {
    fn from(why: SessionError) -> Self {
        if why.is_final() { lost(report(&why)) } else { Self::Broken(why) }
    }
}

impl From<ClientError> for Interrupted {
    fn from(why: ClientError) -> Self {
        SessionError::from(why).into()
    }
}

/// The end of an attempt that came from the machine, not from its program.
pub fn lost(message: String) -> Interrupted {
    Interrupted::Over(AttemptEnd::GuestLost, message)
}

/// The end of an attempt whose `what` the agent refused before the program started, or that cannot
/// be sent. It is the run that is refused: another machine of the pool has the same agent.
pub fn refused(what: &str, why: ClientError) -> Interrupted {
    if why.is_final() {
        let message = format!("{what}: {}", report(&why));
        return Interrupted::Over(AttemptEnd::Refused, message);
    }
    why.into()
}

impl Progress {
    /// The end of an attempt that the host does not follow any longer: its agent did not stop it in
    /// time, or, without a cause, the host's own deadline has come.
    pub fn cut_off(self, cause: Option<StopCause>) -> AttemptReport {
        let (end, message) = match cause {
            Some(cause) => (stopped(cause), "its agent did not stop it, so the machine was ended"),
            None if self.sent => {
                (AttemptEnd::DeadlineExceeded, "its agent did not end it, so the machine was ended")
            }
            None => (AttemptEnd::GuestLost, "its machine did not start it in time"),
        };
        let result = AttemptResult { end, started: self.sent, message: message.to_owned() };
        let Self { acquired, acknowledged, .. } = self;
        AttemptReport { result, wire: None, acquired, acknowledged }
    }
}

/// The end of an attempt whose machine has no address. Another machine may have one.
pub fn unleased(why: Unleased) -> Interrupted {
    match why {
        Unleased::Guest(ClientError::Refused(said)) => lost(said.message.to_string()),
        Unleased::Guest(why) => why.into(),
        Unleased::Host(why) => lost(report(&why)),
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
    let mut message = result.error.as_ref().map(ToString::to_string).unwrap_or_default();
    if result.oom_killed == Some(true) {
        "the machine ran out of memory and the kernel killed the program".clone_into(&mut message);
    }
    AttemptResult { end, started: true, message }
}

/// The end of an attempt that is stopped from outside.
pub fn stopped(cause: StopCause) -> AttemptEnd {
    match cause {
        StopCause::Cancelled => AttemptEnd::Cancelled,
        StopCause::Suspended => AttemptEnd::Suspended,
        StopCause::Evicted => AttemptEnd::Evicted,
        StopCause::DiskFull => AttemptEnd::DiskFull,
        StopCause::NodeLost => AttemptEnd::NodeLost,
    }
}

#[cfg(test)]
mod tests {
    use agentvm_guest_agent::protocol::{ErrorCode, ErrorReport};

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

    fn said_no(code: ErrorCode) -> ClientError {
        let (message, nonce, challenge) = ("no\n".repeat(1 << 19).into(), None, None);
        ClientError::Refused(ErrorReport { code, message, nonce, challenge })
    }

    #[test]
    fn a_refusal_is_an_answer_and_a_broken_channel_is_none() {
        use ErrorCode::{BadOffset, BadProtocol, BadToken, Busy, Failed, Invalid, UnknownNonce};
        for code in [BadToken, BadProtocol, UnknownNonce, Busy, Invalid, BadOffset, Failed] {
            let Interrupted::Over(AttemptEnd::GuestLost, message) = said_no(code).into() else {
                panic!("{code:?} is tried again")
            };
            assert!(message.len() <= 1024 && !message.contains('\n'), "{message}");
            let Interrupted::Over(AttemptEnd::Refused, message) = refused("EXECUTE", said_no(code))
            else {
                panic!("{code:?} is tried again")
            };
            assert!(message.starts_with("EXECUTE: the agent refused: no\\nno"), "{message}");
        }
        let kind = wire::FrameType::Execute;
        let too_long = wire::MessageError::TooLong { kind, length: 1 << 21 };
        let unsendable = refused("EXECUTE", ClientError::Unsendable(too_long));
        assert!(matches!(&unsendable, Interrupted::Over(AttemptEnd::Refused, message)
            if message.contains("2097152 bytes is too long")));
        for broken in [said_no(ErrorCode::BadFrame), ClientError::Closed, ClientError::Silent] {
            assert!(matches!(refused("EXECUTE", broken), Interrupted::Broken(_)));
        }
    }
}
