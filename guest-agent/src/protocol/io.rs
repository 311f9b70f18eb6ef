//! Frames over any tokio stream. Adds nothing to the codec but waiting.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::codec::{Decoder, encode};
use super::frame::{Frame, FrameError};

/// Reads frames.
#[derive(Debug)]
pub struct FrameReader<R> {
    inner: R,
    decoder: Decoder,
    chunk: Vec<u8>,
}

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stream broke.
    #[error("reading from the control channel failed")]
    Io(#[source] std::io::Error),
    /// What came is no frame. Reading on is possible, trusting the session isn't: close it and connect again.
    #[error("the control channel carried a bad frame")]
    Frame(#[source] FrameError),
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads from `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, decoder: Decoder::new(), chunk: vec![0; 16 * 1024] }
    }

    /// The next frame; `None` at the end of the stream. Safe to cancel: no byte is lost.
    pub async fn read(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            if let Some(next) = self.decoder.next_frame() {
                return next.map(Some).map_err(ReadError::Frame);
            }
            let read = self.inner.read(&mut self.chunk).await.map_err(ReadError::Io)?;
            if read == 0 {
                return Ok(None);
            }
            self.decoder.feed(self.chunk.get(..read).unwrap_or_default());
        }
    }

    /// Whether the beginning of a frame was read and its rest is awaited.
    pub fn is_partial(&self) -> bool {
        self.decoder.is_partial()
    }

    /// See [`Decoder::skip_partial`].
    pub fn skip_partial(&mut self) {
        self.decoder.skip_partial();
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

    /// Sends one frame. Not safe to cancel: half a frame may have been sent, so drop the stream then.
    pub async fn write(&mut self, frame: &Frame) -> Result<(), WriteError> {
        self.buffer.clear();
        encode(frame, &mut self.buffer).map_err(WriteError::Frame)?;
        self.inner.write_all(&self.buffer).await.map_err(WriteError::Io)?;
        self.inner.flush().await.map_err(WriteError::Io)
    }
}
