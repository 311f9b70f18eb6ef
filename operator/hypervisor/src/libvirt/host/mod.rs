//! The host below all machines: its state in this process, its NAT network, its filters, its facts.

pub mod at_work;
pub mod facts;
pub mod nat_network;
pub mod nwfilter;
pub mod state;
