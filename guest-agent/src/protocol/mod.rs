//! The control channel, bottom up:
//!
//! ```text
//!   HostMessage / GuestMessage   message/   what is said, typed per direction
//!   Frame                        frame.rs   header, payload, CRC-32
//!   Decoder / encode             codec.rs   bytes <-> frames, sans io, resynchronises
//!   FrameReader / FrameWriter    io.rs      the same over any tokio stream
//!   Replay                       replay.rs  what was said and not yet acknowledged
//! ```
//!
//! A session, seen from the host (`->` to the guest):
//!
//! ```text
//!   -> HELLO {challenge, token?}          <- HELLO {challenge, machine?, attempt?}
//!   -> REHYDRATE {nonce, token, ...}      <- ACK Rehydrate{nonce}
//!   -> LEASE {mac, ...}                   <- ACK Lease{address}
//!   -> WARM                               <- ACK Warm
//!   -> FILE*                              <- ACK File{path, offset}
//!   -> EXECUTE {nonce, argv, ...}         <- ACK Execute{nonce}
//!                                         <- OUTPUT*, STATUS*
//!   -> ACK Output{stream, offset}*        <- RESULT
//!   -> ACK Result{nonce}
//! ```
//!
//! LEASE is for a machine whose address a DHCP server gives. It comes again before EXECUTE: see
//! [`GuestLease`]. An older agent refuses it, so its machine is not lent.
//!
//! WARM may be left out. It walks the way of an attempt once, and lets the launcher of the next
//! attempt wait in its place. It empties the folder for secrets, like the end of every attempt, so
//! FILE comes after it.
//!
//! After a lost connection: HELLO from both, then `-> RESUME {nonce, offsets}`. The agent replays
//! OUTPUT from there and goes on live. RESULT follows all output, and is sent again on every RESUME
//! until it is acknowledged. Before RESUME (or an EXECUTE on that connection) the agent sends no
//! OUTPUT and no RESULT.

mod codec;
mod frame;
mod io;
mod message;
mod replay;
mod values;

pub use agentvm_types::{GuestText, Mac, MacError, Nonce, NonceError, Token};
pub use codec::{Decoder, encode};
pub use frame::{Frame, FrameError, FrameType, HEADER_LEN, MAGIC, MAX_PAYLOAD, VERSION};
pub use io::{FrameReader, FrameWriter, ReadError, WriteError};
pub use message::{
    AttemptReport, AttemptState, EnvVar, ErrorCode, ErrorReport, Execute, FileChunk, GuestAck,
    GuestHello, GuestIpv6, GuestLease, GuestMessage, GuestNetwork, HostAck, HostHello, HostMessage,
    Inspection, InspectionError, MessageError, OutputChunk, OutputGap, Ping, Rehydrate, Resume,
    RunAs, Status, Stop, StreamId, StreamRange, StreamTotals, WireResult,
};
pub use replay::{Gap, Replay, ReplayError};
pub use values::{Blob, Secret};

/// The name of the virtio-serial port that carries the channel where there is no vsock.
pub const SERIAL_PORT: &str = "org.agentvm.agent.0";
/// The vsock port that the agent listens on.
pub const VSOCK_PORT: u32 = 9999;
/// The mount tag of the one 9p device; its root holds `input/` and `output/`.
pub const MOUNT_TAG: &str = "agentvm";
/// The size that an OUTPUT or FILE frame should not exceed, so that control frames never wait long
/// behind it.
pub const CHUNK: usize = 32 * 1024;
