//! Frames over any tokio stream. Adds nothing to the codec but waiting.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

use super::codec::{Decoder, encode};
use super::frame::{Frame, FrameError};

/// The bytes that may be checksummed for one unit of a task's budget. A task has 128 units before
/// another task gets the worker.
const WORK_PER_UNIT: u64 = 8 * 1024;

/// Reads frames.
#[derive(Debug)]
pub struct FrameReader<R> {
    inner: R,
    decoder: Decoder,
    chunk: Vec<u8>,
    patience: Option<Duration>,
    overdue: Option<Instant>,
    /// The work of the decoder that was taken from the task's budget.
    yielded_for: u64,
}

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stream broke.
    #[error("reading from the control channel failed")]
    Io(#[source] std::io::Error),
    /// The bytes are not a frame. Reading on is possible, but the session is not trusted: close it
    /// and connect again.
    #[error("the control channel carried a bad frame")]
    Frame(#[source] FrameError),
    /// The rest of a frame did not come in time; it is given up, like a bad frame.
    #[error("the rest of a frame did not come in time")]
    Stalled,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads from `inner`.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            decoder: Decoder::new(),
            chunk: vec![0; 16 * 1024],
            patience: None,
            overdue: None,
            yielded_for: 0,
        }
    }

    /// Gives up on a frame that isn't whole within `patience` of its first byte.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// The next frame; `None` at the end of the stream. Safe to cancel: no byte is lost.
    ///
    /// This yields from time to time, even if bytes without end are there: a caller that reads in a
    /// loop holds no worker of the runtime.
    pub async fn read(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            self.yield_for_work().await;
            if let Some(next) = self.decoder.next_frame() {
                self.overdue = None;
                return next.map(Some).map_err(ReadError::Frame);
            }
            let Some(read) = self.fill().await? else {
                self.decoder.skip_partial();
                self.overdue = None;
                return Err(ReadError::Stalled);
            };
            if read == 0 {
                return Ok(None);
            }
            self.decoder.feed(self.chunk.get(..read).unwrap_or_default());
        }
    }

    /// Yields in proportion to the work: a frame that was checksummed in vain costs the worker as
    /// much as one that was read.
    async fn yield_for_work(&mut self) {
        let done = self.decoder.checksummed();
        loop {
            tokio::task::consume_budget().await;
            self.yielded_for = self.yielded_for.saturating_add(WORK_PER_UNIT);
            if self.yielded_for >= done {
                self.yielded_for = done;
                return;
            }
        }
    }

    /// The number of received bytes; `None` if the rest of a frame is overdue.
    ///
    /// The deadline belongs to the frame, not to the read: a peer that waits for an answer may send
    /// more greetings into the frame that swallows them.
    async fn fill(&mut self) -> Result<Option<usize>, ReadError> {
        let deadline = self
            .patience
            .filter(|_| self.decoder.is_partial())
            .map(|patience| *self.overdue.get_or_insert_with(|| Instant::now() + patience));
        let read = self.inner.read(&mut self.chunk);
        let read = match deadline {
            None => read.await,
            Some(deadline) => match timeout_at(deadline, read).await {
                Ok(read) => read,
                Err(_) => return Ok(None),
            },
        };
        read.map(Some).map_err(ReadError::Io)
    }
}

/// Writes frames, each flushed.
#[derive(Debug)]
pub struct FrameWriter<W> {
    inner: W,
    buffer: Vec<u8>,
}

/// Why a frame wasn't sent.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The stream broke.
    #[error("writing to the control channel failed")]
    Io(#[source] std::io::Error),
    /// The frame can't be sent at all.
    #[error("the message does not fit into a frame")]
    Frame(#[source] FrameError),
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, buffer: Vec::new() }
    }

    /// Sends one frame. Not safe to cancel: half a frame may have been sent, so drop the stream
    /// then.
    pub async fn write(&mut self, frame: &Frame) -> Result<(), WriteError> {
        self.buffer.clear();
        encode(frame, &mut self.buffer).map_err(WriteError::Frame)?;
        self.inner.write_all(&self.buffer).await.map_err(WriteError::Io)?;
        self.inner.flush().await.map_err(WriteError::Io)
    }

    /// Ends the stream in this direction. A broken stream has ended already.
    pub async fn shutdown(&mut self) {
        let _ = self.inner.shutdown().await;
    }
}
