//! Decides what to send next on the session. It never sends.
//!
//! Control messages go first, then output in the order of writing, then the result. Output and
//! result go only to a session that started or resumed the attempt, because only such a session
//! knows the offsets.

use std::collections::VecDeque;

use agentvm_guest_agent::protocol::{CHUNK, GuestMessage, OutputChunk, OutputGap, StreamId};

use crate::attempt::Attempt;

/// The progress of the session.
#[derive(Debug, Default)]
pub struct Outbox {
    control: VecDeque<GuestMessage>,
    progress: Option<Progress>,
}

#[derive(Debug)]
struct Progress {
    stdout: u64,
    stderr: u64,
    result_sent: bool,
    /// Streams take turns.
    stderr_first: bool,
}

impl Outbox {
    /// Queues an answer.
    pub fn push(&mut self, message: GuestMessage) {
        self.control.push_back(message);
    }

    /// The session wants output from here on, and the result.
    pub fn resume(&mut self, stdout: u64, stderr: u64) {
        self.progress = Some(Progress { stdout, stderr, result_sent: false, stderr_first: false });
    }

    /// Whether every answer was sent.
    pub fn is_empty(&self) -> bool {
        self.control.is_empty()
    }

    /// Takes the next message, if there is any.
    pub fn next(&mut self, attempt: Option<&Attempt>) -> Option<GuestMessage> {
        if let Some(message) = self.control.pop_front() {
            return Some(message);
        }
        self.progress.as_mut()?.next(attempt?)
    }

    /// Whether [`Outbox::next`] would have something, at no cost.
    pub fn has_next(&self, attempt: Option<&Attempt>) -> bool {
        let pending = || Some(self.progress.as_ref()?.has_next(attempt?));
        !self.control.is_empty() || pending().unwrap_or(false)
    }
}

impl Progress {
    fn has_next(&self, attempt: &Attempt) -> bool {
        self.stdout < attempt.stdout.replay().end()
            || self.stderr < attempt.stderr.replay().end()
            || (!self.result_sent && attempt.result().is_some())
    }

    fn next(&mut self, attempt: &Attempt) -> Option<GuestMessage> {
        let order = [StreamId::Stdout, StreamId::Stderr];
        let order = if self.stderr_first { [order[1], order[0]] } else { order };
        self.stderr_first = !self.stderr_first;
        for stream in order {
            let cursor =
                if stream == StreamId::Stdout { &mut self.stdout } else { &mut self.stderr };
            let replay = attempt.stream(stream).replay();
            // Acknowledged already means received already.
            let offset = (*cursor).max(replay.first());
            let data = replay.read_from(offset, CHUNK).unwrap_or_default();
            if !data.is_empty() {
                *cursor = offset + data.len() as u64;
                return Some(GuestMessage::Output(OutputChunk { stream, offset, data }));
            }
            if let Some(gap) = replay.gap_at(offset) {
                *cursor = gap.end();
                let missing = gap.missing;
                return Some(GuestMessage::Gap(OutputGap { stream, offset, missing }));
            }
        }
        let result = attempt.result().filter(|_| !self.result_sent)?;
        self.result_sent = true;
        Some(GuestMessage::Result(result.clone()))
    }
}
