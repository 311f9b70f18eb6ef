//! The XML that libvirt is given and answers with. Pure: text and data only.

pub mod baseline;
mod devices;
pub mod domain;
pub mod element;
pub mod interface;
pub mod limits;
pub mod metadata;
pub mod network;
pub mod nwfilter;
