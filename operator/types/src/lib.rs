//! Identities and nouns that every part of agentvm shares.
//!
//! This crate is a leaf: the guest agent's protocol, the core and the hypervisor all use it, and it
//! uses none of them. A value with a rule is checked here once; two identities cannot be exchanged
//! by accident.

mod guest_limits;
mod guest_text;
mod hex;
mod identity;
mod mac;
mod nonce;
mod report;
mod size;
mod tier;
mod token;

pub use guest_limits::{SECRETS_BLOCK, SECRETS_BYTES, SECRETS_INODES};
pub use guest_text::{GuestText, one_line};
pub use hex::hex;
pub use identity::{NodeId, NodeName, OwnerUid, PoolUid, RunUid};
pub use mac::{Mac, MacError, deserialize_unicast};
pub use nonce::{Nonce, NonceError};
pub use report::{causes, report};
pub use size::{MachineLimits, Resources};
pub use tier::{Tier, TierReport};
pub use token::Token;
