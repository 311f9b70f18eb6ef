//! The parts of every status: conditions, and texts with a largest size.

mod bounds;
mod conditions;

pub use bounds::{MAX_MESSAGE, clip, plain, tail};
pub use conditions::{Decided, find, settle};
