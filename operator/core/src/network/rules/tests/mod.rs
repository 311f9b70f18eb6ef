//! The rule set as text, as nft takes it, and as it judges packets.

mod bridged;
mod golden;
mod property;
mod sample;
mod syntax;
mod walk;
