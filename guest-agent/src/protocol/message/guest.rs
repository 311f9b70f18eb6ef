//! The messages of the guest. All of them are claims: a guest may have been taken over.

use std::net::Ipv4Addr;

use agentvm_types::{GuestText, Nonce};
use serde::{Deserialize, Serialize};

use super::Inspection;

/// The answer to a HELLO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestHello {
    /// The version of the messages that the agent speaks.
    pub protocol: u32,
    /// The host's, repeated.
    pub challenge: Nonce,
    /// The agent's own version.
    pub agent_version: String,
    /// The boot id of the running kernel. It is equal in all copies of a golden.
    pub boot_id: String,
    /// The kernel version, from `uname -r`.
    pub kernel: String,
    /// The nonce that is held, if any.
    #[serde(default)]
    pub machine: Option<Nonce>,
    /// The attempt that the agent remembers: gone once its result is acknowledged.
    #[serde(default)]
    pub attempt: Option<AttemptReport>,
    /// Whether the nonce that is held was executed already, acknowledged or not.
    #[serde(default)]
    pub executed: bool,
    /// The agent's view of its machine, if the host asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inspection: Option<Inspection>,
}

/// Where an attempt is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptReport {
    /// Which.
    pub nonce: Nonce,
    /// The progress of the attempt.
    pub state: AttemptState,
    /// The part of stdout that can be replayed.
    pub stdout: StreamRange,
    /// The part of stderr that can be replayed.
    pub stderr: StreamRange,
}

/// `Held -> Running -> Finished`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptState {
    /// The nonce is held and was never executed.
    Held,
    /// Processes of it live, or output of it is still being read.
    Running,
    /// There is a result that wasn't acknowledged.
    Finished,
}

/// The range of a replay buffer: `first <= offset < end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRange {
    /// The first byte that is kept.
    pub first: u64,
    /// One past the last byte produced.
    pub end: u64,
}

/// Something was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum GuestAck {
    /// The machine is rehydrated.
    Rehydrate {
        /// Now held.
        nonce: Nonce,
    },
    /// The machine has an address of the network that it is plugged into.
    Lease {
        /// Which; absent where there is no machine.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<Ipv4Addr>,
    },
    /// The attempt was started, now or before.
    Execute {
        /// Which.
        nonce: Nonce,
    },
    /// A piece of a file is written.
    File {
        /// Which file.
        path: String,
        /// The size of the file that the guest has.
        offset: u64,
    },
    /// The attempt was told to end; RESULT follows.
    StopAttempt {
        /// Which.
        nonce: Nonce,
    },
    /// The machine may be captured as soon as the connection is closed.
    Quiesce {
        /// The inspection that every copy of this machine must repeat when it wakes; absent where
        /// there is no machine.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inspection: Option<Inspection>,
    },
    /// The machine turns itself off now.
    PowerOff,
    /// The way of an attempt is warm.
    Warm,
}

/// A stream of an attempt; the number is the frame's stream id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum StreamId {
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
}

/// Bytes as the attempt wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputChunk {
    /// The stream of the output.
    pub stream: StreamId,
    /// The offset of the first byte in the stream.
    pub offset: u64,
    /// The bytes; any bytes.
    pub data: Vec<u8>,
}

impl OutputChunk {
    /// One past the last byte.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.data.len() as u64)
    }
}

/// A part of a stream that is missing between its beginning and its end: the stream is longer than
/// its limit. It comes after all output before it, and at most once per stream. The output after it
/// goes on at [`OutputGap::end`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputGap {
    /// The stream.
    pub stream: StreamId,
    /// The offset of the first byte that is missing.
    pub offset: u64,
    /// The number of bytes that are missing.
    pub missing: u64,
}

impl OutputGap {
    /// The offset of the first byte after the gap.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.missing)
    }
}

/// The guest's own usage figures, every few seconds while an attempt runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Since boot.
    pub uptime_millis: u64,
    /// All memory of the machine.
    pub memory_total_bytes: u64,
    /// Memory of the machine that is available.
    pub memory_available_bytes: u64,
    /// Memory of the attempt.
    pub attempt_memory_bytes: u64,
    /// CPU time of the attempt, user and system.
    pub attempt_cpu_micros: u64,
    /// Processes of the attempt.
    pub attempt_processes: u64,
}

/// The end of an attempt. It comes after all of the attempt's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireResult {
    /// Which.
    pub nonce: Nonce,
    /// The exit code of the main process; like a shell's, it is 127 or 126 if the process could not
    /// be started.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// The signal that killed the main process.
    #[serde(default)]
    pub signal: Option<i32>,
    /// The timeout passed before the main process ended.
    pub timed_out: bool,
    /// A STOP came before the main process ended.
    pub stopped: bool,
    /// The kernel killed a process of the attempt because memory ran out; absent where that cannot
    /// be known.
    #[serde(default)]
    pub oom_killed: Option<bool>,
    /// From start to the end of the main process.
    pub duration_millis: u64,
    /// Totals of stdout.
    pub stdout: StreamTotals,
    /// Totals of stderr.
    pub stderr: StreamTotals,
    /// Why the command could not be started, in words.
    #[serde(default)]
    pub error: Option<GuestText>,
}

/// The total size of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamTotals {
    /// Sent as OUTPUT.
    pub bytes: u64,
    /// Above the limit: counted and thrown away. A GAP stands for them if the host asked for one.
    pub dropped: u64,
}

/// A refusal, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: GuestText,
    /// The nonce of the refused message, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<Nonce>,
    /// Repeated when a HELLO is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<Nonce>,
}

/// The reasons of [`ErrorReport`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// HELLO without the machine's token, or with another.
    BadToken,
    /// The host's message version isn't spoken here.
    BadProtocol,
    /// A frame or message that could not be read; the session is over.
    BadFrame,
    /// The nonce is not the held one.
    UnknownNonce,
    /// An attempt is running, so this can't be done now.
    Busy,
    /// The message asks for something that isn't allowed or makes no sense.
    Invalid,
    /// RESUME or ACK for bytes that aren't kept.
    BadOffset,
    /// The request was tried and failed; the message tells the failure.
    Failed,
    /// A code of a newer agent.
    #[serde(other)]
    Other,
}
