//! Flows: connections and packets that the rules log (NFLOG), joined with the machine that sent
//! them.
//!
//! A thread of its own reads the installation's group. It never waits for the receiver. Flows that
//! are lost on the way, in the kernel or here, are counted, and a log line says how many: the
//! rules' own counters stay exact.

mod listener;
mod message;
mod packet;
mod reader;

pub use listener::Origin;
