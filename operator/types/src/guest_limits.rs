//! The limits of a machine for the content of a run: the agent enforces them, and the host judges a
//! run by them before it claims a machine.

/// The size of the tmpfs for secret files, bytes. A file takes whole blocks.
pub const SECRETS_BYTES: u64 = 16 << 20;
/// A block of that tmpfs, bytes.
pub const SECRETS_BLOCK: u64 = 4096;
/// The files and folders of that tmpfs, its root included.
pub const SECRETS_INODES: usize = 4096;
