//! Netlink: the firewall's messages to the kernel about devices, bridges, addresses and neighbours.
//!
//! Messages to the kernel's routing are typed (`route`, on the crate `netlink-packet-route`).
//! Messages of nfnetlink, which carry logged packets and changes of rules, are read by hand
//! (`raw`): the crate for them hides the kind of a frame and knows no VLAN tags.

pub mod address;
pub mod bridge;
pub mod device;
pub mod neighbour;
pub mod raw;
mod route;
pub mod socket;
