//! One output stream of an attempt: the part that is kept, to be sent and sent again, and the part
//! that is only counted.

use std::collections::VecDeque;

use agentvm_guest_agent::protocol::{CHUNK, Replay, StreamTotals};
use tokio::sync::mpsc;

/// The limit of unacknowledged bytes. When it is reached, the command waits.
const REPLAY: usize = 1 << 20;
/// The limit of the last bytes that are kept of a stream, whatever the host asks for.
const MAX_END: u64 = 1 << 20;

/// Reads chunks as there is room for them.
///
/// The beginning of the stream goes to the host as it comes. Bytes beyond it go into a ring, which
/// always has the last ones. When the stream ends, the ring follows, behind a gap.
#[derive(Debug)]
pub struct Stream {
    replay: Replay,
    source: Option<mpsc::Receiver<Vec<u8>>>,
    /// Bytes of the beginning.
    beginning: u64,
    ring: VecDeque<u8>,
    ring_size: usize,
    dropped: u64,
}

impl Stream {
    /// `limit`: the kept bytes. `end`: the part of them that the end of a longer stream gets.
    pub fn new(source: mpsc::Receiver<Vec<u8>>, limit: u64, end: u64) -> Self {
        let end = end.min(limit).min(MAX_END);
        Self {
            replay: Replay::new(REPLAY),
            source: Some(source),
            beginning: limit - end,
            ring: VecDeque::new(),
            ring_size: usize::try_from(end).unwrap_or(0),
            dropped: 0,
        }
    }

    pub fn replay(&self) -> &Replay {
        &self.replay
    }

    pub fn replay_mut(&mut self) -> &mut Replay {
        &mut self.replay
    }

    pub fn totals(&self) -> StreamTotals {
        let all = self.replay.end() + self.ring.len() as u64;
        // The bytes of the gap are in `end()` as soon as the stream is closed.
        let bytes = if self.is_closed() { all.saturating_sub(self.gap()) } else { all };
        StreamTotals { bytes, dropped: self.dropped }
    }

    /// Whether the other end was closed, or given up.
    pub fn is_closed(&self) -> bool {
        self.source.is_none()
    }

    /// Ends the stream: nothing comes any more, or the wait for its writer is given up.
    pub fn close(&mut self) {
        if self.source.take().is_some() {
            self.replay.finish(self.gap(), std::mem::take(&mut self.ring));
        }
    }

    /// The missing bytes that the host hears of. A host that asked for no end of the stream expects
    /// its end where the beginning ends.
    fn gap(&self) -> u64 {
        if self.ring_size > 0 { self.dropped } else { 0 }
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

    /// Keeps the beginning and the last bytes, and counts those between; `None` closes the stream.
    pub fn take(&mut self, chunk: Option<Vec<u8>>) {
        let Some(chunk) = chunk else { return self.close() };
        let keep = usize::try_from(self.left()).unwrap_or(usize::MAX).min(chunk.len());
        let kept = self.replay.push(chunk.get(..keep).unwrap_or_default());
        let rest = chunk.get(kept..).unwrap_or_default();
        // No more than one ring of a chunk can stay.
        let last = rest.get(rest.len().saturating_sub(self.ring_size)..).unwrap_or_default();
        self.ring.extend(last);
        let passed = self.ring.len().saturating_sub(self.ring_size);
        self.ring.drain(..passed);
        self.dropped += (rest.len() - last.len() + passed) as u64;
    }

    fn left(&self) -> u64 {
        if self.ring.is_empty() { self.beginning.saturating_sub(self.replay.end()) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_is_counted_and_never_blocks() {
        let (_sender, source) = mpsc::channel(1);
        let mut stream = Stream::new(source, 10, 0);
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
        let mut stream = Stream::new(source, u64::MAX, 0);
        for _ in 0..REPLAY / CHUNK {
            assert!(stream.wants());
            stream.take(Some(vec![0; CHUNK]));
        }
        assert!(!stream.wants());
        stream.replay_mut().ack(CHUNK as u64).unwrap();
        assert!(stream.wants());
        assert_eq!(stream.totals().dropped, 0);
    }

    /// Everything that the host gets of a stream of numbered bytes.
    fn sent(limit: u64, end: u64, chunks: &[usize]) -> (Vec<u8>, u64, Vec<u8>) {
        let (_sender, source) = mpsc::channel(1);
        let mut stream = Stream::new(source, limit, end);
        let mut next = 0_u8;
        for length in chunks {
            let chunk: Vec<u8> = (0..*length)
                .map(|_| {
                    next = next.wrapping_add(1);
                    next
                })
                .collect();
            stream.take(Some(chunk));
        }
        stream.take(None);
        let replay = stream.replay();
        let beginning = replay.read_from(0, usize::MAX).unwrap();
        let gap = replay.gap_at(beginning.len() as u64);
        let last = gap.map_or(Vec::new(), |gap| replay.read_from(gap.end(), 999).unwrap());
        assert_eq!(
            stream.totals(),
            StreamTotals {
                bytes: (beginning.len() + last.len()) as u64,
                dropped: gap.map_or(0, |gap| gap.missing),
            }
        );
        (beginning, gap.map_or(0, |gap| gap.missing), last)
    }

    #[test]
    fn the_beginning_and_the_true_end_are_kept_with_a_gap_of_the_right_length() {
        assert_eq!(sent(10, 4, &[8, 8, 8]), ((1..=6).collect(), 14, (21..=24).collect()));
        assert_eq!(sent(10, 4, &[1; 24]), ((1..=6).collect(), 14, (21..=24).collect()));
        assert_eq!(sent(10, 4, &[24]), ((1..=6).collect(), 14, (21..=24).collect()));
        assert_eq!(sent(10, 4, &[6, 3, 1]), ((1..=10).collect(), 0, vec![]), "exactly the limit");
        assert_eq!(sent(10, 4, &[11]), ((1..=6).collect(), 1, (8..=11).collect()));
        assert_eq!(sent(10, 4, &[]), (vec![], 0, vec![]));
        assert_eq!(sent(1, 1, &[5]), (vec![], 4, vec![5]));
    }
}
