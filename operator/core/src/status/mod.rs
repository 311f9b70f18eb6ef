//! The parts of every status: conditions, and texts with a largest size.

mod bounds;
mod conditions;

pub use bounds::{MAX_MESSAGE, clip, marked_tail, missing_mark, plain, tail};
pub use conditions::{Decided, find, settle};
