//! Machines with a network: the addresses that they reach, and those that they never reach.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says by panicking what is wrong"
)]

mod announced;
mod attacks;
mod begins;
mod bridged;
mod dual;
mod escape;
mod flushed;
mod frames;
mod ground;
mod hogs;
mod internet_works;
mod ipv6;
mod lab;
mod lan;
mod lan_attacks;
#[path = "../libvirt_host/mod.rs"]
mod libvirt_host;
mod limits;
mod real;
mod real_use;
mod redirected;
mod rules_hold;
mod spy;
