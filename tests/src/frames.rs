//! An agent that was taken over: the real agent of a machine, with something between it and the
//! host that misbehaves at one kind of message.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agentvm_core::names::DomainName;
use agentvm_guest_agent::protocol::{
    ErrorCode, ErrorReport, Frame, FrameReader, FrameType, FrameWriter, GuestAck, GuestHello,
    GuestMessage, HostHello, HostMessage, Nonce, OutputChunk, StreamId,
};
use agentvm_hypervisor::Channel;
use tokio::io::{AsyncRead, AsyncWrite, split};

/// The place of a misbehaviour: a kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// HELLO that asks what the agent sees, in a preparation.
    Inspect,
    /// HELLO of a session after the first one broke.
    Hello,
    Rehydrate,
    Warm,
    File,
    Execute,
    Resume,
    Stop,
    /// The acknowledgement of output.
    Ack,
    /// The agent's own messages.
    Output,
    Result,
}

impl Place {
    /// A machine that failed its preparation is made anew, so such a place comes up once.
    pub fn is_of_a_preparation(self) -> bool {
        matches!(self, Self::Inspect | Self::Rehydrate | Self::Warm)
    }
}

/// The misbehaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// ERROR, with a message that would fill a log and forge its lines.
    Refuses,
    /// An answer that is well-formed and wrong.
    Lies,
    /// Bytes without end: news, empty output, frames that overlap.
    Floods,
    /// Nothing more is said, and everything is read.
    FallsSilent,
}

impl How {
    pub const ALL: [Self; 4] = [Self::Refuses, Self::Lies, Self::Floods, Self::FallsSilent];
}

#[derive(Debug, Default)]
struct Plan {
    armed: Option<(Place, How)>,
    /// The first incarnation that the plan met. Others behave.
    bound: Option<(DomainName, u64)>,
    hits: u32,
    /// REHYDRATEs so far, for each machine: its incarnation.
    incarnations: HashMap<DomainName, u64>,
}

/// The plan of one world, shared by all of its channels.
#[derive(Clone, Debug, Default)]
pub struct Frames(Arc<Mutex<Plan>>);

impl Frames {
    /// One incarnation misbehaves here from now on, over all of its sessions.
    pub fn plan(&self, place: Place, how: How) {
        *self.plan_mut() = Plan { armed: Some((place, how)), ..Plan::default() };
    }

    /// The number of times that it misbehaved.
    pub fn hits(&self) -> u32 {
        self.plan_mut().hits
    }

    /// The layer that the fake puts between the host and its agents.
    pub fn tap(&self) -> impl Fn(&DomainName, Channel) -> Channel + Send + Sync + 'static {
        let frames = self.clone();
        move |name, agent| {
            let (host, ours) = tokio::io::duplex(1 << 16);
            let session = Session { frames: frames.clone(), name: name.clone() };
            tokio::spawn(session.run(ours, agent));
            Box::new(host)
        }
    }

    fn plan_mut(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Session {
    frames: Frames,
    name: DomainName,
}

impl Session {
    async fn run(self, host: tokio::io::DuplexStream, agent: Channel) {
        let (from_host, to_host) = split(host);
        let (from_agent, to_agent) = split(agent);
        let (mut from_host, mut to_host) = (FrameReader::new(from_host), FrameWriter::new(to_host));
        let (mut from_agent, mut to_agent) =
            (FrameReader::new(from_agent), FrameWriter::new(to_agent));
        loop {
            let (frame, of_host) = tokio::select! {
                frame = from_host.read() => (frame, true),
                frame = from_agent.read() => (frame, false),
            };
            let Ok(Some(frame)) = frame else { return };
            let place = if of_host { self.place_of_host(&frame) } else { place_of_agent(&frame) };
            if let Some(how) = place.and_then(|place| self.misbehaves(place)) {
                return misbehave(how, place, &frame, &mut from_host, &mut to_host).await;
            }
            let cut = place.is_some_and(|place| self.breaks_at(place));
            let sent =
                if of_host { to_agent.write(&frame).await } else { to_host.write(&frame).await };
            if sent.is_err() || cut {
                return;
            }
        }
    }

    fn place_of_host(&self, frame: &Frame) -> Option<Place> {
        match HostMessage::from_frame(frame).ok()? {
            HostMessage::Hello(hello) if hello.inspect => Some(Place::Inspect),
            HostMessage::Hello(_) => Some(Place::Hello),
            HostMessage::Rehydrate(_) => {
                let mut plan = self.frames.plan_mut();
                *plan.incarnations.entry(self.name.clone()).or_default() += 1;
                Some(Place::Rehydrate)
            }
            HostMessage::Warm => Some(Place::Warm),
            HostMessage::File(_) => Some(Place::File),
            HostMessage::Execute(_) => Some(Place::Execute),
            HostMessage::Resume(_) => Some(Place::Resume),
            HostMessage::Stop(_) => Some(Place::Stop),
            HostMessage::Ack(_) => Some(Place::Ack),
            HostMessage::Lease(_) | HostMessage::Ping(_) => None,
        }
    }

    fn misbehaves(&self, place: Place) -> Option<How> {
        let mut plan = self.frames.plan_mut();
        let (armed, how) = plan.armed?;
        if plan.hits > 0 && armed.is_of_a_preparation() {
            return None;
        }
        let met = (self.name.clone(), plan.incarnations.get(&self.name).copied().unwrap_or(0));
        let ours = *plan.bound.get_or_insert_with(|| met.clone()) == met;
        if armed != place || !ours {
            // It is bound by the first message at its place, not by others.
            if plan.hits == 0 {
                plan.bound = None;
            }
            return None;
        }
        plan.hits += 1;
        Some(how)
    }

    /// A plan for a later session needs a session that breaks: at the first output.
    fn breaks_at(&self, place: Place) -> bool {
        let plan = self.frames.plan_mut();
        let later = matches!(plan.armed, Some((Place::Hello | Place::Resume, _)));
        place == Place::Output && later && plan.hits == 0
    }
}

fn place_of_agent(frame: &Frame) -> Option<Place> {
    match frame.kind {
        FrameType::Output => Some(Place::Output),
        FrameType::Result => Some(Place::Result),
        _ => None,
    }
}

async fn misbehave<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    how: How,
    place: Option<Place>,
    frame: &Frame,
    from_host: &mut FrameReader<R>,
    to_host: &mut FrameWriter<W>,
) {
    let asked = HostMessage::from_frame(frame).ok();
    let challenge = match &asked {
        Some(HostMessage::Hello(hello)) => Some(hello.challenge.clone()),
        _ => None,
    };
    match how {
        How::Refuses => {
            let message = "no\n2026-01-01T00:00:00Z ERROR forged\x1b[2J\r".repeat(20_000);
            say(to_host, &error(&message, challenge)).await;
        }
        How::Lies => {
            if let Ok(lie) = lie(place, challenge).into_frame() {
                say(to_host, &lie).await;
            }
        }
        How::Floods => return flood(to_host).await,
        How::FallsSilent => {}
    }
    // It reads on, so that the host does not see the end of the channel.
    while let Ok(Some(_)) = from_host.read().await {}
}

/// The JSON is made by hand, so that no type of ours shortens the message.
fn error(message: &str, challenge: Option<Nonce>) -> Frame {
    let report =
        ErrorReport { code: ErrorCode::Invalid, message: "".into(), nonce: None, challenge };
    let mut body = serde_json::to_value(report).unwrap_or_default();
    body["message"] = message.into();
    let payload = body.to_string().into_bytes();
    Frame { kind: FrameType::Error, flags: 0, stream: 0, payload }
}

fn lie(place: Option<Place>, challenge: Option<Nonce>) -> GuestMessage {
    match (place, challenge) {
        (_, Some(challenge)) => GuestMessage::Hello(GuestHello {
            protocol: HostHello::PROTOCOL,
            challenge,
            agent_version: String::new(),
            boot_id: String::new(),
            kernel: String::new(),
            machine: Some(Nonce::from_bytes([6; 16])),
            attempt: None,
            executed: true,
            inspection: None,
        }),
        (Some(Place::Output), _) => GuestMessage::Output(OutputChunk {
            stream: StreamId::Stdout,
            offset: u64::MAX / 2,
            data: b"forged".to_vec(),
        }),
        // An acknowledgement of another attempt, for all that wait for one.
        _ => GuestMessage::Ack(GuestAck::Execute { nonce: Nonce::from_bytes([6; 16]) }),
    }
}

async fn flood<W: AsyncWrite + Unpin>(to_host: &mut FrameWriter<W>) {
    let news = [
        GuestMessage::Output(OutputChunk { stream: StreamId::Stdout, offset: 0, data: vec![] }),
        GuestMessage::Status(agentvm_guest_agent::protocol::Status::default()),
    ];
    loop {
        for message in &news {
            let Ok(frame) = message.clone().into_frame() else { return };
            if !say(to_host, &frame).await {
                return;
            }
        }
    }
}

async fn say<W: AsyncWrite + Unpin>(to_host: &mut FrameWriter<W>, frame: &Frame) -> bool {
    to_host.write(frame).await.is_ok()
}
