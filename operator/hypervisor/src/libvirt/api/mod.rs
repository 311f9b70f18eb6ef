//! The five traits of a host, implemented with libvirt: one file for each, named like those in
//! `src/api/`.

mod goldens;
mod host;
mod links;
mod machines;
mod shares;
