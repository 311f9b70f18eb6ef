//! DHCP's messages, as bytes.
//!
//! Only the parser of smoltcp is used: it allocates no memory, its project fuzzes it, and, unlike
//! dhcproto, it brings no library for names or randomness along.

use std::net::Ipv4Addr;

use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress};

use super::lease_terms::{Offered, Terms};

/// The size that fits into a frame. Servers keep to it.
pub const LONGEST: u16 = 1500;
/// The minimum of BOOTP, which some servers and relays still insist on.
const SHORTEST: usize = 300;
/// The options that are asked for: subnet mask, router, name servers, the times of the lease.
const WANTED: [u8; 6] = [1, 3, 6, 51, 58, 59];
/// The option that may name several routers, best first.
const ROUTER: u8 = 3;

/// A message of a client. It is broadcast, so the server hears it, whichever server it is by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Asks for an offer.
    Discover,
    /// This one, which that server has offered.
    Take { address: Ipv4Addr, server: Ipv4Addr },
    /// More of this one, which the interface has.
    Renew { address: Ipv4Addr },
}

/// A message of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Offer(Result<Terms, &'static str>),
    Granted(Result<Terms, &'static str>),
    Refused,
}

/// One conversation of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Talk {
    pub mac: [u8; 6],
    pub id: u32,
}

/// The bytes of a question; `seconds`: since the conversation began.
pub fn ask(talk: Talk, seconds: u16, what: Ask) -> Vec<u8> {
    let (kind, requested, server, client) = match what {
        Ask::Discover => (DhcpMessageType::Discover, None, None, None),
        Ask::Take { address, server } => {
            (DhcpMessageType::Request, Some(address), Some(server), None)
        }
        Ask::Renew { address } => (DhcpMessageType::Request, None, None, Some(address)),
    };
    let message = DhcpRepr {
        message_type: kind,
        transaction_id: talk.id,
        secs: seconds,
        client_hardware_address: EthernetAddress(talk.mac),
        client_ip: client.unwrap_or(Ipv4Addr::UNSPECIFIED),
        your_ip: Ipv4Addr::UNSPECIFIED,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        // The kernel hands over nothing that is for an address it doesn't have yet.
        broadcast: client.is_none(),
        requested_ip: requested,
        client_identifier: None,
        server_identifier: server,
        parameter_request_list: Some(&WANTED),
        dns_servers: None,
        max_size: Some(LONGEST),
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    let mut bytes = vec![0; message.buffer_len().max(SHORTEST)];
    // It fits: the length is the message's own.
    let _ = message.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..]));
    bytes
}

/// A server's message of this conversation; messages of other conversations are ignored.
pub fn hear(bytes: &[u8], talk: Talk) -> Option<Said> {
    let packet = DhcpPacket::new_checked(bytes).ok()?;
    let message = DhcpRepr::parse(&packet).ok()?;
    if message.transaction_id != talk.id || message.client_hardware_address.0 != talk.mac {
        return None;
    }
    let routers = || packet.options().find(|option| option.kind == ROUTER);
    let terms = || {
        Terms::of(&Offered {
            address: Some(message.your_ip),
            mask: message.subnet_mask,
            gateway: routers()
                .and_then(|option| option.data.first_chunk::<4>().copied())
                .map(Ipv4Addr::from),
            resolvers: message.dns_servers.iter().flatten().copied().collect(),
            server: message.server_identifier,
            lasts: message.lease_duration,
            renew: message.renew_duration,
        })
    };
    match message.message_type {
        DhcpMessageType::Offer => Some(Said::Offer(terms())),
        DhcpMessageType::Ack => Some(Said::Granted(terms())),
        DhcpMessageType::Nak => Some(Said::Refused),
        _ => None,
    }
}
