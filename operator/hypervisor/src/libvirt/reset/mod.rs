//! Resets: in place with a proof, and the self-test that decides which tier this host offers.

pub mod golden_caches;
pub mod in_place;
pub mod proof;
pub mod self_test;
