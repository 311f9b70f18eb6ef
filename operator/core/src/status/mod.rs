//! What every status is made of: conditions, and texts with a largest size.

mod bounds;
mod conditions;

pub use bounds::{MAX_MESSAGE, clip, plain, tail};
pub use conditions::{Decided, find, settle};
