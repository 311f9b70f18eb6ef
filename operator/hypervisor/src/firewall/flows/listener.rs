//! The listener: a thread that joins the installation's NFLOG group, and gives on the flows of
//! machines.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentvm_core::names::DomainName;
use agentvm_core::network::rules::{
    PREFIX_ALLOW, PREFIX_DENY, PREFIX_FRAME, PREFIX_LIMIT, PREFIX_QEMU,
};
use agentvm_core::network::{Flow, FlowVerdict, Target};
use tokio::sync::mpsc;

use super::message::{self, Logged, Said};
use super::packet;
use super::reader::{self, Reader};
use crate::firewall::Firewall;

/// The number of flows that may wait for the listener.
const WAITING: usize = 1024;
/// Between two tries to join the group.
const RETRY: Duration = Duration::from_secs(5);
/// The time after which a missing listener is noticed.
const NOTICE: Duration = Duration::from_millis(250);
/// The time between two lines about lost flows.
const SAY_LOST: Duration = Duration::from_secs(10);

/// The part of a packet that tells its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The source of this packet was pinned before it was logged.
    Address(IpAddr),
    /// The addresses of this frame prove nothing.
    Tap(String),
}

/// Finds the machine that sent a packet. It is asked for every flow, so it must not block.
#[derive(Clone)]
pub struct SenderLookup(Arc<Lookup>);

type Lookup = dyn Fn(&Origin) -> Option<DomainName> + Send + Sync;

impl SenderLookup {
    pub fn new(lookup: impl Fn(&Origin) -> Option<DomainName> + Send + Sync + 'static) -> Self {
        Self(Arc::new(lookup))
    }
}

impl fmt::Debug for SenderLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SenderLookup")
    }
}

impl Firewall {
    /// See [`crate::Hypervisor::flows`]. Fails if the thread cannot be started.
    pub fn listen_to_flows(self: &Arc<Self>) -> io::Result<mpsc::Receiver<Flow>> {
        let firewall = Arc::downgrade(self);
        let senders = SenderLookup::new(move |origin| firewall.upgrade()?.machines.sender(origin));
        listen(self.table().log_group(), senders)
    }
}

/// Reads the group for as long as the receiver exists.
fn listen(group: u16, senders: SenderLookup) -> io::Result<mpsc::Receiver<Flow>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let mut listener = Listener { group, senders, sender, lost: Lost::default() };
    std::thread::Builder::new().name("flows".to_owned()).spawn(move || listener.listen())?;
    Ok(receiver)
}

struct Listener {
    group: u16,
    senders: SenderLookup,
    sender: mpsc::Sender<Flow>,
    lost: Lost,
}

impl Listener {
    /// Joins, reads, and joins again when that ends.
    fn listen(&mut self) {
        let mut said = false;
        while !self.sender.is_closed() {
            match Reader::join(self.group) {
                Ok(mut reader) => {
                    said = false;
                    if let Err(why) = self.follow(&mut reader) {
                        tracing::warn!(
                            group = self.group,
                            error = &why as &dyn std::error::Error,
                            "the log of the network broke off; it is joined again"
                        );
                    }
                }
                Err(why) if said => tracing::debug!(group = self.group, "NFLOG: {why}"),
                Err(why) => {
                    said = true;
                    tracing::warn!(
                        "what machines try with their network can't be read from NFLOG group {}: \
                            {why}; it takes CAP_NET_ADMIN and the kernel module nfnetlink_log, and \
                            no other process may read the group; tried again every {RETRY:?}",
                        self.group
                    );
                }
            }
            let again = Instant::now() + RETRY;
            while Instant::now() < again && !self.sender.is_closed() {
                std::thread::sleep(NOTICE);
            }
        }
    }

    /// Runs until the listener is gone, or the socket breaks.
    fn follow(&mut self, reader: &mut Reader) -> io::Result<()> {
        while !self.sender.is_closed() {
            let heard: Vec<_> = match reader.next(NOTICE) {
                Ok(datagram) => datagram
                    .into_iter()
                    .flat_map(message::read)
                    .inspect(alarm)
                    .filter_map(packet)
                    .collect(),
                Err(why) if reader::is_overrun(&why) => {
                    self.lost.overruns += 1;
                    Vec::new()
                }
                Err(why) => return Err(why),
            };
            for (source, verdict, target) in heard {
                self.tell(reader, source, verdict, target);
            }
            self.lost.say();
        }
        Ok(())
    }

    fn tell(&mut self, reader: &Reader, source: FlowSource, verdict: FlowVerdict, target: Target) {
        let origin = match source {
            FlowSource::Address(address) => Some(Origin::Address(address)),
            FlowSource::Device(index) => reader.device(index).map(Origin::Tap),
        };
        let Some(machine) = origin.and_then(|origin| (self.senders.0)(&origin)) else {
            self.lost.nobodys += 1;
            return;
        };
        let flow = Flow { machine, at: Instant::now(), verdict, target };
        if self.sender.try_send(flow).is_err() {
            self.lost.unheard += 1;
        }
    }
}

/// The origin that a packet itself names.
#[derive(Clone, Copy, Debug)]
enum FlowSource {
    Address(IpAddr),
    Device(u32),
}

/// No machine sends this: an attacker controls the process of one.
fn alarm(said: &Said<'_>) {
    let Some((user, target)) = by_qemu(said) else { return };
    tracing::error!(
        user,
        "a machine's QEMU tried to use the host's network: {target}; it was dropped. Something has \
            broken out of that machine: \
         ps -fu {user} shows its process, with the machine's name"
    );
}

fn by_qemu(said: &Said<'_>) -> Option<(u32, String)> {
    let Said::Packet(logged) = said else { return None };
    let is_it = logged.prefix == PREFIX_QEMU.as_bytes();
    let target = packet::of_ip(logged.payload)
        .map_or_else(|| "what it was can't be read".to_owned(), |(_, to)| to.to_string());
    is_it.then_some((logged.user?, target))
}

fn packet(said: Said<'_>) -> Option<(FlowSource, FlowVerdict, Target)> {
    let Said::Packet(logged) = said else { return None };
    let verdict = verdict(&logged)?;
    if verdict == FlowVerdict::Frame {
        return Some((FlowSource::Device(logged.device?), verdict, packet::of_frame(&logged)));
    }
    let (source, target) = packet::of_ip(logged.payload)?;
    Some((FlowSource::Address(source), verdict, target))
}

fn verdict(logged: &Logged<'_>) -> Option<FlowVerdict> {
    let known = [
        (PREFIX_ALLOW, FlowVerdict::Allowed),
        (PREFIX_DENY, FlowVerdict::Denied),
        (PREFIX_LIMIT, FlowVerdict::Limited),
        (PREFIX_FRAME, FlowVerdict::Frame),
    ];
    known
        .into_iter()
        .find(|(prefix, _)| prefix.as_bytes() == logged.prefix)
        .map(|(_, verdict)| verdict)
}

/// The flows that no listener heard of.
#[derive(Debug, Default)]
struct Lost {
    /// Times that the kernel had no room.
    overruns: u64,
    /// Flows that the listener had no room for.
    unheard: u64,
    /// Flows of machines that are gone, or of no machine.
    nobodys: u64,
    said: Option<Instant>,
}

impl Lost {
    fn say(&mut self) {
        let Self { overruns, unheard, nobodys, said } = self;
        let none = *overruns == 0 && *unheard == 0 && *nobodys == 0;
        if none || said.is_some_and(|said| said.elapsed() < SAY_LOST) {
            return;
        }
        if *overruns == 0 && *unheard == 0 {
            tracing::debug!(nobodys, "flows of no machine were left out");
        } else {
            tracing::warn!(
                overruns,
                unheard,
                nobodys,
                "more was tried with the network than the log could hold; counts stay exact"
            );
        }
        *self = Self { said: Some(Instant::now()), ..Self::default() };
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
