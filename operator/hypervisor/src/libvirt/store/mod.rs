//! The files of this installation: where they stand, and how they are read and written.

pub mod digest;
pub mod goldens;
pub mod image;
pub mod marks;
pub mod state_folder;
