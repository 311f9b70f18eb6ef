//! Fair shares between namespaces, max-min fair and without waste: a share that its namespace does
//! not use is used by the others, and no namespace gets more while one that wants more has less.

mod machines;
mod turns;

pub use machines::{Want, divide};
pub use turns::Turns;
