//! One connection: a task that reads, a task that writes, and channels to both.

use std::time::Duration;

use agentvm_guest_agent::protocol::{
    Frame, FrameError, FrameReader, FrameWriter, GuestMessage, HostMessage, MessageError, ReadError,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::log;
use crate::outbox::Outbox;
use crate::transport::Connection;

/// The time for the rest of a frame. On a serial port a host may have died in the middle of a
/// frame, and the next host's HELLO would be taken for its payload.
const PARTIAL_PATIENCE: Duration = Duration::from_secs(3);

/// The time for writing the last answers.
const WRITE_PATIENCE: Duration = Duration::from_secs(2);

/// A received event.
#[derive(Debug)]
pub enum Incoming {
    Message(HostMessage),
    /// Bytes that are no frame, or a frame that is no message.
    Bad(String),
    Closed,
}

/// The connection in use. Dropping it closes the connection as soon as the queue is written.
#[derive(Debug)]
pub struct Session {
    pub outbox: Outbox,
    /// A HELLO was accepted.
    pub greeted: bool,
    /// Nothing more is read until the outbox is empty. Then the session closes, or begins again on
    /// a lasting connection.
    pub closing: bool,
    pub lasting: bool,
    incoming: mpsc::Receiver<Incoming>,
    outgoing: mpsc::Sender<Frame>,
    reader: AbortOnDrop,
    writer: JoinHandle<()>,
}

/// A reader is useless once its session is gone.
#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Session {
    /// Starts reading and writing.
    pub fn start(connection: Connection) -> Self {
        let Connection { link, lasting } = connection;
        let (read_half, write_half) = tokio::io::split(link);
        let (sender, incoming) = mpsc::channel(4);
        let (outgoing, frames) = mpsc::channel(2);
        let reader =
            tokio::spawn(read(FrameReader::new(read_half).with_patience(PARTIAL_PATIENCE), sender));
        let writer = tokio::spawn(write(FrameWriter::new(write_half), frames));
        let reader = AbortOnDrop(reader);
        Self {
            outbox: Outbox::default(),
            greeted: false,
            closing: false,
            lasting,
            incoming,
            outgoing,
            reader,
            writer,
        }
    }

    /// The next received event. Safe to cancel.
    pub async fn receive(&mut self) -> Incoming {
        if self.closing {
            return std::future::pending().await;
        }
        self.incoming.recv().await.unwrap_or(Incoming::Closed)
    }

    /// Where places for frames can be reserved.
    pub fn outgoing(&self) -> mpsc::Sender<Frame> {
        self.outgoing.clone()
    }

    /// Closes the connection when all messages are written, or cannot be.
    pub async fn finish(self) {
        let Self { outgoing, reader, writer, .. } = self;
        drop((outgoing, reader));
        let _ = tokio::time::timeout(WRITE_PATIENCE, writer).await;
    }
}

/// A reserved place for one frame.
pub type Permit = mpsc::OwnedPermit<Frame>;

/// Sends a message into a reserved place. A message that cannot be encoded is a bug of ours: it is
/// logged, not hidden.
pub fn send(permit: Permit, message: GuestMessage) {
    match message.into_frame() {
        Ok(frame) => drop(permit.send(frame)),
        Err(why) => log::error("a message could not be encoded", &why),
    }
}

async fn read<R: AsyncRead + Unpin>(mut reader: FrameReader<R>, sender: mpsc::Sender<Incoming>) {
    loop {
        let incoming = match reader.read().await {
            Ok(Some(frame)) => {
                HostMessage::from_frame(&frame).map_or_else(bad_message, Incoming::Message)
            }
            // A stretch of garbage between frames says nothing that the next bad frame wouldn't.
            Err(ReadError::Frame(FrameError::Garbage)) => continue,
            Err(why @ (ReadError::Frame(_) | ReadError::Stalled)) => {
                Incoming::Bad(agentvm_types::report(&why))
            }
            Ok(None) | Err(ReadError::Io(_)) => Incoming::Closed,
        };
        let last = matches!(incoming, Incoming::Closed);
        if sender.send(incoming).await.is_err() || last {
            return;
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the shape of map_or_else")]
fn bad_message(why: MessageError) -> Incoming {
    Incoming::Bad(agentvm_types::report(&why))
}

async fn write<W: AsyncWrite + Unpin>(
    mut writer: FrameWriter<W>,
    mut frames: mpsc::Receiver<Frame>,
) {
    while let Some(frame) = frames.recv().await {
        if writer.write(&frame).await.is_err() {
            return;
        }
    }
    writer.shutdown().await;
}
