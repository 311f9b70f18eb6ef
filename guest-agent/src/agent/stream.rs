//! One output stream of an attempt: the part that is kept, to be sent and sent again, and the part
//! that is only counted.

use agentvm_guest_agent::protocol::{CHUNK, Replay, StreamTotals};
use tokio::sync::mpsc;

/// The limit of unacknowledged bytes. When it is reached, the command waits.
const REPLAY: usize = 1 << 20;

/// Reads chunks as there is room for them.
#[derive(Debug)]
pub struct Stream {
    replay: Replay,
    source: Option<mpsc::Receiver<Vec<u8>>>,
    limit: u64,
    dropped: u64,
}

impl Stream {
    pub fn new(source: mpsc::Receiver<Vec<u8>>, limit: u64) -> Self {
        Self { replay: Replay::new(REPLAY), source: Some(source), limit, dropped: 0 }
    }

    pub fn replay(&self) -> &Replay {
        &self.replay
    }

    pub fn replay_mut(&mut self) -> &mut Replay {
        &mut self.replay
    }

    pub fn totals(&self) -> StreamTotals {
        StreamTotals { bytes: self.replay.end(), dropped: self.dropped }
    }

    /// Whether the other end was closed, or given up.
    pub fn is_closed(&self) -> bool {
        self.source.is_none()
    }

    /// Gives up on an end that stays open.
    pub fn close(&mut self) {
        self.source = None;
    }

    /// Whether a chunk could be taken now: open, and either room for it or no need for room.
    pub fn wants(&self) -> bool {
        self.source.is_some() && (self.replay.free() >= CHUNK || self.left() == 0)
    }

    /// The next chunk; `None` at the end. Safe to cancel.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        match &mut self.source {
            Some(source) => source.recv().await,
            None => None,
        }
    }

    /// Keeps the bytes below the limit, counts the rest; `None` closes the stream.
    pub fn take(&mut self, chunk: Option<Vec<u8>>) {
        let Some(chunk) = chunk else { return self.close() };
        let keep = usize::try_from(self.left()).unwrap_or(usize::MAX).min(chunk.len());
        let kept = self.replay.push(chunk.get(..keep).unwrap_or_default());
        self.dropped += (chunk.len() - kept) as u64;
    }

    fn left(&self) -> u64 {
        self.limit.saturating_sub(self.replay.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_is_counted_and_never_blocks() {
        let (_sender, source) = mpsc::channel(1);
        let mut stream = Stream::new(source, 10);
        stream.take(Some(vec![1; 8]));
        stream.take(Some(vec![2; 8]));
        assert_eq!(stream.totals(), StreamTotals { bytes: 10, dropped: 6 });
        stream.take(Some(vec![3; CHUNK]));
        assert!(stream.wants());
        assert_eq!(stream.totals().dropped, 6 + CHUNK as u64);
    }

    #[test]
    fn a_full_buffer_wants_nothing_until_it_is_acknowledged() {
        let (_sender, source) = mpsc::channel(1);
        let mut stream = Stream::new(source, u64::MAX);
        for _ in 0..REPLAY / CHUNK {
            assert!(stream.wants());
            stream.take(Some(vec![0; CHUNK]));
        }
        assert!(!stream.wants());
        stream.replay_mut().ack(CHUNK as u64).unwrap();
        assert!(stream.wants());
        assert_eq!(stream.totals().dropped, 0);
    }
}
