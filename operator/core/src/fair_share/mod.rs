//! Fair shares between namespaces, max-min fair and without waste: a share that its namespace does
//! not use is used by the others, and no namespace gets more while one that wants more has less.

mod machines;
mod part;
mod turns;

pub use machines::{Want, divide};
pub use part::{Holding, Part, part};
pub use turns::Turns;
