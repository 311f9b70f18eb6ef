//! The host's side of a session with a real agent, as little of it as these tests need.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agentvm_core::names::DomainName;
use agentvm_guest_agent::protocol::{
    Blob, Execute, FrameReader, FrameWriter, GuestAck, GuestHello, GuestLease, GuestMessage,
    GuestNetwork, HostAck, HostHello, HostMessage, Inspection, Nonce, Rehydrate, RunAs, Stop,
    StreamId, Token, connect,
};
use agentvm_hypervisor::{Channel, Hypervisor};
use tokio::io::{ReadHalf, WriteHalf};

const PATIENCE: Duration = Duration::from_mins(1);

/// A nonce that no other call in this process gets.
pub fn nonce() -> Nonce {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    Nonce::from_bytes((started ^ (u128::from(n) << 96)).to_be_bytes())
}

pub struct Guest {
    reader: FrameReader<ReadHalf<Channel>>,
    writer: FrameWriter<WriteHalf<Channel>>,
    /// What it is told about its network, with each command.
    pub network: Option<GuestNetwork>,
}

impl Guest {
    /// Connects, again and again while the guest boots.
    pub async fn open(hv: &dyn Hypervisor, name: &DomainName, token: &str) -> Self {
        Self::greet(hv, name, token).await.0
    }

    /// The same, with what the agent sees of its machine.
    #[allow(dead_code, reason = "not every test needs it")]
    pub async fn inspect(
        hv: &dyn Hypervisor,
        name: &DomainName,
        token: &str,
    ) -> (Self, Inspection) {
        let (guest, hello) = Self::greet(hv, name, token).await;
        (guest, hello.inspection.expect("it was asked"))
    }

    async fn greet(hv: &dyn Hypervisor, name: &DomainName, token: &str) -> (Self, GuestHello) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (read, write) = tokio::io::split(hv.connect(name).await.unwrap());
            let mut guest = Self {
                reader: FrameReader::new(read),
                writer: FrameWriter::new(write),
                network: None,
            };
            let hello = HostHello::new(nonce(), Some(Token::new(token))).inspecting();
            let session = connect(&mut guest.reader, &mut guest.writer, hello);
            if let Ok(Ok(hello)) = tokio::time::timeout(Duration::from_secs(2), session).await {
                return (guest, hello);
            }
            assert!(tokio::time::Instant::now() < deadline, "the agent of {name} never answered");
        }
    }

    async fn send(&mut self, message: HostMessage) {
        self.writer.write(&message.into_frame().unwrap()).await.unwrap();
    }

    async fn receive(&mut self) -> GuestMessage {
        let frame =
            tokio::time::timeout(PATIENCE, self.reader.read()).await.expect("the agent is silent");
        GuestMessage::from_frame(&frame.unwrap().expect("the agent is there")).unwrap()
    }

    /// Gives it an identity, and its network if it has one.
    pub async fn rehydrate(&mut self, token: &str) -> Nonce {
        let nonce = nonce();
        self.send(HostMessage::Rehydrate(Rehydrate {
            nonce: nonce.clone(),
            token: Token::new(token),
            hostname: "machine".to_owned(),
            machine_id: nonce.to_string(),
            entropy: Blob(vec![7; 64]),
            time_unix_nanos: now(),
            workspace: true,
            network: self.network.clone(),
        }))
        .await;
        loop {
            match self.receive().await {
                GuestMessage::Ack(GuestAck::Rehydrate { nonce: held }) if held == nonce => {
                    return nonce;
                }
                GuestMessage::Error(report) => panic!("{report:?}"),
                _ => {}
            }
        }
    }

    /// Runs a shell command as root; its exit code and output.
    pub async fn sh(&mut self, token: &str, command: &str) -> (Option<i32>, String) {
        let nonce = self.begin(token, command).await;
        self.end(&nonce).await
    }

    async fn end(&mut self, nonce: &Nonce) -> (Option<i32>, String) {
        let mut said = Vec::new();
        loop {
            if let Some(code) = self.hear(nonce, &mut said).await {
                return (code, String::from_utf8_lossy(&said).trim().to_owned());
            }
        }
    }

    /// Starts a shell command as root.
    pub async fn begin(&mut self, token: &str, command: &str) -> Nonce {
        self.begin_with(token, command, 0).await
    }

    /// The same, with no more processes at a time than `max_processes`.
    pub async fn begin_with(&mut self, token: &str, command: &str, max_processes: u32) -> Nonce {
        let nonce = self.rehydrate(token).await;
        self.start(&nonce, command, max_processes).await;
        nonce
    }

    /// Starts one in a machine that has its identity.
    pub async fn start(&mut self, nonce: &Nonce, command: &str, max_processes: u32) {
        let argv = ["/bin/sh", "-c", command].map(str::to_owned).to_vec();
        self.send(HostMessage::Execute(Execute {
            nonce: nonce.clone(),
            argv,
            env: Vec::new(),
            cwd: None,
            run_as: RunAs::Root,
            stdin: None,
            timeout_millis: 300_000,
            grace_millis: 1000,
            max_stdout_bytes: 1 << 20,
            max_stderr_bytes: 1 << 20,
            max_processes,
            time_unix_nanos: now(),
            entropy: Blob(vec![9; 64]),
        }))
        .await;
    }

    /// Has it hold an address that a DHCP server gives; or why it has none.
    #[allow(dead_code, reason = "not every test needs it")]
    pub async fn lease(&mut self, order: &GuestLease) -> Result<Ipv4Addr, String> {
        self.send(HostMessage::Lease(order.clone())).await;
        loop {
            match self.receive().await {
                GuestMessage::Ack(GuestAck::Lease { address }) => {
                    return Ok(address.expect("there is a machine"));
                }
                GuestMessage::Error(report) => return Err(report.message),
                _ => {}
            }
        }
    }

    /// Runs a shell command as root in a machine that has its identity.
    #[allow(dead_code, reason = "not every test needs it")]
    pub async fn execute(&mut self, nonce: &Nonce, command: &str) -> (Option<i32>, String) {
        self.start(nonce, command, 0).await;
        self.end(nonce).await
    }

    /// Ends a command that still runs: one that doesn't any more is an error.
    #[allow(dead_code, reason = "not every test needs it")]
    pub async fn stop(&mut self, nonce: &Nonce) {
        self.send(HostMessage::Stop(Stop::Attempt { nonce: nonce.clone(), grace_millis: 0 })).await;
        self.end(nonce).await;
    }

    /// The next message; the exit code when it is the command's end, else what it says is added to `said`.
    pub async fn hear(&mut self, nonce: &Nonce, said: &mut Vec<u8>) -> Option<Option<i32>> {
        match self.receive().await {
            GuestMessage::Output(output) => {
                let offset = output.offset + output.data.len() as u64;
                if output.stream == StreamId::Stdout || output.stream == StreamId::Stderr {
                    said.extend_from_slice(&output.data);
                }
                self.send(HostMessage::Ack(HostAck::Output { stream: output.stream, offset }))
                    .await;
            }
            GuestMessage::Result(result) if result.nonce == *nonce => {
                self.send(HostMessage::Ack(HostAck::Result { nonce: nonce.clone() })).await;
                return Some(result.exit_code);
            }
            GuestMessage::Error(report) => panic!("{report:?}"),
            _ => {}
        }
        None
    }

    /// Asks the agent to make itself ready for a capture; what it then sees of its machine.
    pub async fn quiesce(mut self) -> Inspection {
        self.send(HostMessage::Stop(Stop::Quiesce { golden: Some(nonce()) })).await;
        loop {
            match self.receive().await {
                GuestMessage::Ack(GuestAck::Quiesce { inspection }) => {
                    return inspection.expect("there is a machine");
                }
                GuestMessage::Error(report) => panic!("{report:?}"),
                _ => {}
            }
        }
    }
}

/// The host's wall clock, as the protocol has it.
pub fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}
