//! A session with a real agent, with the values of these tests.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agentvm_core::names::DomainName;
use agentvm_guest_agent::client::{AttemptEvent, Client, ClientError};
use agentvm_guest_agent::protocol::{
    Blob, Execute, GuestHello, GuestLease, GuestNetwork, HostHello, Inspection, Nonce, Rehydrate,
    RunAs, Token,
};
use agentvm_hypervisor::{Channel, Hypervisor};

const PATIENCE: Duration = Duration::from_mins(1);

/// A nonce that no other call in this process gets.
pub fn nonce() -> Nonce {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    Nonce::from_bytes((started ^ (u128::from(n) << 96)).to_be_bytes())
}

pub struct Guest {
    client: Client<Channel>,
    /// Its place in the network, which it is told with each command.
    pub network: Option<GuestNetwork>,
}

impl Guest {
    /// Connects, again and again while the guest boots.
    pub async fn open(hv: &dyn Hypervisor, name: &DomainName, token: &str) -> Self {
        Self::greet(hv, name, token).await.0
    }

    /// Connects, and returns the agent's view of its machine too.
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
            let mut client = Client::new(hv.connect(name).await.unwrap());
            let hello = HostHello::new(nonce(), Some(Token::new(token))).inspecting();
            let session = client.hello(hello);
            if let Ok(Ok(hello)) = tokio::time::timeout(Duration::from_secs(2), session).await {
                return (Self { client, network: None }, hello);
            }
            assert!(tokio::time::Instant::now() < deadline, "the agent of {name} never answered");
        }
    }

    /// Gives it an identity, and its network if it has one.
    pub async fn rehydrate(&mut self, token: &str) -> Nonce {
        let nonce = nonce();
        let identity = Rehydrate {
            nonce: nonce.clone(),
            token: Token::new(token),
            hostname: "machine".to_owned(),
            machine_id: nonce.to_string(),
            entropy: Blob(vec![7; 64]),
            time_unix_nanos: now(),
            workspace: true,
            network: self.network.clone(),
        };
        self.client.rehydrate(identity, PATIENCE).await.unwrap();
        nonce
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

    /// Starts a shell command that may have `max_processes` at a time.
    pub async fn begin_with(&mut self, token: &str, command: &str, max_processes: u32) -> Nonce {
        let nonce = self.rehydrate(token).await;
        self.start(&nonce, command, max_processes).await;
        nonce
    }

    /// Starts a command in a machine that has its identity.
    pub async fn start(&mut self, nonce: &Nonce, command: &str, max_processes: u32) {
        let argv = ["/bin/sh", "-c", command].map(str::to_owned).to_vec();
        let order = Execute {
            run_as: RunAs::Root,
            timeout_millis: 300_000,
            grace_millis: 1000,
            max_processes,
            ..Execute::new(nonce.clone(), argv, now(), Blob(vec![9; 64]))
        };
        self.client.execute(order, PATIENCE).await.unwrap();
    }

    /// Makes it hold an address that a DHCP server gives; or returns the reason why it has none.
    #[allow(dead_code, reason = "not every test needs it")]
    pub async fn lease(&mut self, order: &GuestLease) -> Result<Ipv4Addr, String> {
        match self.client.lease(order.clone(), PATIENCE).await {
            Ok(address) => Ok(address.expect("there is a machine")),
            Err(ClientError::Refused(report)) => Err(report.message.to_string()),
            Err(why) => panic!("{why:?}"),
        }
    }

    /// Runs a shell command as root in a machine that has its identity.
    #[allow(dead_code, reason = "not every test needs it")]
    pub async fn execute(&mut self, nonce: &Nonce, command: &str) -> (Option<i32>, String) {
        self.start(nonce, command, 0).await;
        self.end(nonce).await
    }

    /// Ends a command that still runs. It is an error if the command has ended.
    #[allow(dead_code, reason = "not every test needs it")]
    pub async fn stop(&mut self, nonce: &Nonce) {
        self.client.follow(nonce.clone()).stop(Duration::ZERO).await.unwrap();
        self.end(nonce).await;
    }

    /// The next message: the exit code at the command's end; before, output is added to `said`.
    pub async fn hear(&mut self, nonce: &Nonce, said: &mut Vec<u8>) -> Option<Option<i32>> {
        let mut execution = self.client.follow(nonce.clone());
        let event = tokio::time::timeout(PATIENCE, execution.next()).await;
        match event.expect("the agent is silent").unwrap() {
            AttemptEvent::Output(output) => {
                said.extend_from_slice(&output.data);
                execution.acknowledge(output.stream, output.end()).await.unwrap();
                None
            }
            AttemptEvent::Result(result) => {
                execution.acknowledge_result().await.unwrap();
                Some(result.exit_code)
            }
            AttemptEvent::Gap(_) | AttemptEvent::Alive => None,
        }
    }

    /// Asks the agent to make itself ready for a capture; then its view of its machine.
    pub async fn quiesce(mut self) -> Inspection {
        self.client.quiesce(nonce(), PATIENCE).await.unwrap()
    }
}

/// The host's wall clock, as the protocol has it.
pub fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}
