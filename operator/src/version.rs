//! The version of agentvm, and the commit that it was built from.

/// The version of the release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit, or a word if it is not known.
pub const COMMIT: &str = env!("AGENTVM_COMMIT");
