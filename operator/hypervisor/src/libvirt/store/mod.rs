//! The files of this installation: their places, and reading and writing them.

pub mod digest;
pub mod disk;
pub mod goldens;
pub mod image;
pub mod marks;
pub mod state_folder;
