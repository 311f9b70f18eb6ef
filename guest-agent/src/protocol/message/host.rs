//! The messages of the host.

use agentvm_types::{Nonce, Token};
use serde::{Deserialize, Serialize};

use super::env::EnvVar;
use super::guest::StreamId;
use super::network::GuestNetwork;
use crate::protocol::values::Blob;

/// Opens a session. A newer one replaces an older one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostHello {
    /// The version of the messages; see [`HostHello::PROTOCOL`].
    pub protocol: u32,
    /// Random, fresh for each session: the guest repeats it.
    pub challenge: Nonce,
    /// The token of the last REHYDRATE; without it a rehydrated machine refuses the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// Shall the answer contain the agent's view of its machine? That takes a moment, so only a
    /// machine that is about to be judged is asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inspect: bool,
}

impl HostHello {
    /// The version of the messages that this crate speaks.
    pub const PROTOCOL: u32 = 1;

    /// A greeting in this crate's version.
    pub fn new(challenge: Nonce, token: Option<Token>) -> Self {
        Self { protocol: Self::PROTOCOL, challenge, token, inspect: false }
    }

    /// Asks for an [`Inspection`](super::Inspection), too.
    #[must_use]
    pub fn inspecting(self) -> Self {
        Self { inspect: true, ..self }
    }
}

/// Makes a restored or booted machine one of its own. Acknowledged only when all of it worked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehydrate {
    /// Held from now on: EXECUTE must carry it.
    pub nonce: Nonce,
    /// Every later HELLO must carry it.
    pub token: Token,
    /// The machine's name.
    pub hostname: String,
    /// 32 lower-case hex characters, as in `/etc/machine-id`.
    pub machine_id: String,
    /// Fresh randomness for the guest's kernel; 64 bytes.
    pub entropy: Blob,
    /// The host's wall clock.
    pub time_unix_nanos: u64,
    /// Whether to mount the 9p share as the workspace's input and output.
    pub workspace: bool,
    /// The network of the interface. Without it the interface stays down, or there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<GuestNetwork>,
}

/// Starts the one attempt of the nonce that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execute {
    /// The nonce of the last REHYDRATE.
    pub nonce: Nonce,
    /// The program, looked up in the attempt's PATH, and its arguments.
    pub argv: Vec<String>,
    /// Added to the agent's clean environment; wins over it.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// Defaults to `/workspace/work`; a relative path is below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// The user of the attempt.
    pub run_as: RunAs,
    /// Whether the files of the input are copied into the working directory first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub project: bool,
    /// All of stdin; without it stdin is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Blob>,
    /// After this the attempt gets SIGTERM; 0 means never.
    pub timeout_millis: u64,
    /// From SIGTERM to SIGKILL.
    #[serde(default = "default_grace")]
    pub grace_millis: u64,
    /// The kept bytes of stdout; the rest is counted and dropped.
    pub max_stdout_bytes: u64,
    /// The kept bytes of stderr.
    pub max_stderr_bytes: u64,
    /// The part of the kept bytes that the end of a stream gets, where the stream is longer than
    /// its limit. The rest of the limit is its beginning, and a GAP stands between. An agent that
    /// does not know this keeps the beginning only. A host that does not know it gets no GAP.
    #[serde(default, skip_serializing_if = "is_none_of_it")]
    pub end_bytes: u64,
    /// The largest number of processes and threads at a time; 0 means as many as the machine's
    /// memory carries.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub max_processes: u32,
    /// The host's wall clock; 0 leaves the guest's alone.
    pub time_unix_nanos: u64,
    /// Fresh randomness again: a parked machine may have waited long.
    pub entropy: Blob,
}

impl Execute {
    /// A program without environment and input, with the limits that a small one needs: 1 min,
    /// 1 MiB of each stream. Set the other fields by hand.
    pub fn new(nonce: Nonce, argv: Vec<String>, time_unix_nanos: u64, entropy: Blob) -> Self {
        Self {
            nonce,
            argv,
            env: Vec::new(),
            cwd: None,
            run_as: RunAs::Agent,
            project: false,
            stdin: None,
            timeout_millis: 60_000,
            grace_millis: default_grace(),
            max_stdout_bytes: 1 << 20,
            max_stderr_bytes: 1 << 20,
            end_bytes: 0,
            max_processes: 0,
            time_unix_nanos,
            entropy,
        }
    }
}

fn default_grace() -> u64 {
    5000
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "it is what serde calls")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "it is what serde calls")]
fn is_none_of_it(number: &u64) -> bool {
    *number == 0
}

/// The user of an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunAs {
    /// uid 1000, `HOME=/home/agent`.
    #[default]
    Agent,
    /// uid 0 without the capabilities that reach the kernel or the agent.
    Root,
}

/// A piece of a file for `/workspace/secrets`, sent before EXECUTE; pieces come in order.
#[derive(Clone, PartialEq, Eq)]
pub struct FileChunk {
    /// Relative, below `/workspace/secrets`.
    pub path: String,
    /// Permission bits; of them the owner's count.
    pub mode: u32,
    /// The size of the whole file.
    pub size: u64,
    /// The offset of this piece.
    pub offset: u64,
    /// The piece; an empty file is one empty piece.
    pub data: Vec<u8>,
}

impl std::fmt::Debug for FileChunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, mode, size, offset, data } = self;
        write!(f, "FileChunk({path:?}, {mode:o}, {offset}+{} of {size})", data.len())
    }
}

/// The thing to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "snake_case")]
pub enum Stop {
    /// The running attempt: SIGTERM, grace, SIGKILL; its RESULT says `stopped`.
    Attempt {
        /// Which; another than the running one is an error.
        nonce: Nonce,
        /// From SIGTERM to SIGKILL.
        grace_millis: u64,
    },
    /// Before a capture: forget nonce and token, unmount, drop caches, warm up, answer, close the
    /// connection.
    Quiesce {
        /// The machine's memory keeps this from now on, and so does every copy of it. Only a
        /// machine in this golden state can repeat it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        golden: Option<Nonce>,
    },
    /// Turn the machine off.
    PowerOff,
}

/// The data that the host has received and made durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum HostAck {
    /// All of a stream before `offset`.
    Output {
        /// Which stream.
        stream: StreamId,
        /// One past the last byte received.
        offset: u64,
    },
    /// The result; the agent may forget it.
    Result {
        /// The attempt of the result.
        nonce: Nonce,
    },
}

/// Where to replay from, after a new connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The attempt to replay.
    pub nonce: Nonce,
    /// The first byte of stdout wanted.
    pub stdout_offset: u64,
    /// The first byte of stderr wanted.
    pub stderr_offset: u64,
}

/// Comes back as it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Any number.
    pub id: u64,
}
