//! A machine from its creation to its end.

pub mod create;
pub mod limits_in_force;
pub mod links;
pub mod observe;
pub mod power;
pub mod self_test_record;
pub mod start;
pub mod sweep;
