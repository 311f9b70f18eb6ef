//! A client with a socket and a clock. The socket is there only while an answer is waited for.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use rustix::net::SendFlags;
use rustix::time::{ClockId, clock_gettime};
use tokio::net::UdpSocket;
use tokio::time::sleep;

use super::client::{Client, Effect};
use super::lease_terms::Terms;
use super::message::LONGEST;
use crate::log;

const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);

/// The change for the interface.
#[derive(Debug)]
pub enum Turn {
    Hold(Terms),
    Lose(&'static str),
}

/// A machine that wants an address, or has one for some time.
#[derive(Debug)]
pub struct Tenant {
    client: Client,
    interface: String,
    socket: Option<UdpSocket>,
    /// The address of the interface: the granted one, unless it could not be set.
    pub has: Option<Terms>,
    /// Why nothing could be sent, the last time that it couldn't.
    unsent: Option<io::Error>,
}

impl Tenant {
    pub fn new(mac: [u8; 6], interface: &str) -> Self {
        let client = Client::new(mac, now(), random());
        Self { client, interface: interface.to_owned(), socket: None, has: None, unsent: None }
    }

    pub fn mac(&self) -> [u8; 6] {
        self.client.mac()
    }

    /// The obstacle between the interface and an address, as far as it is known.
    pub fn trouble(&self) -> String {
        match (&self.unsent, self.client.unfit()) {
            (Some(why), _) => format!("nothing could be sent: {why}"),
            (None, Some(why)) => format!("one was offered that can't be taken: {why}"),
            (None, None) => "none answered".to_owned(),
        }
    }

    /// Waits for an event, and handles it. If it is dropped before, the event has not happened.
    pub async fn next(&mut self) -> Vec<Turn> {
        let mut buffer = [0; LONGEST as usize];
        let wait = self.client.wait(now());
        let heard = tokio::select! {
            biased;
            heard = receive(self.socket.as_ref(), &mut buffer) => Some(heard),
            () = rest(wait) => None,
        };
        match heard {
            Some(Ok(length)) => self.turn(buffer.get(..length)),
            Some(Err(why)) => {
                (self.socket, self.unsent) = (None, Some(why));
                Vec::new()
            }
            None => self.turn(None),
        }
    }

    /// Does the due work.
    pub fn turn(&mut self, heard: Option<&[u8]>) -> Vec<Turn> {
        let effects = self.client.step(now(), random(), heard);
        let mut turns = Vec::new();
        for effect in effects {
            match effect {
                // A question that cannot be sent now goes with the next one.
                Effect::Send(bytes) => self.unsent = self.send(&bytes).err(),
                Effect::Hold(terms) => turns.push(Turn::Hold(terms)),
                Effect::Lose(why) => turns.push(Turn::Lose(why)),
            }
        }
        if !self.client.is_asking() {
            self.socket = None;
        }
        turns
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => open(&self.interface)?,
        };
        let sent = rustix::net::sendto(&socket, bytes, SendFlags::DONTWAIT, &SERVER);
        self.socket = Some(socket);
        sent.map(drop).map_err(io::Error::from)
    }
}

/// Without an address, the kernel sends from 0.0.0.0, as DHCP demands, and receives broadcasts.
fn open(interface: &str) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(CLIENT)?;
    socket.set_nonblocking(true)?;
    socket.set_broadcast(true)?;
    let socket = UdpSocket::from_std(socket)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    Ok(socket)
}

async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> io::Result<usize> {
    match socket {
        Some(socket) => socket.recv(buffer).await,
        None => std::future::pending().await,
    }
}

async fn rest(wait: Option<Duration>) {
    match wait {
        Some(wait) => sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// The wall clock, which the host has set.
fn now() -> Duration {
    let time = clock_gettime(ClockId::Realtime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(_) => u32::from_ne_bytes(bytes),
        Err(why) => {
            log::error("no random number from the kernel", &io::Error::from(why));
            now().subsec_nanos()
        }
    }
}
