//! The host's side of `talk.py`: tells a machine to send, receive, answer and open connections, and
//! measures the times.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::namespace::Namespace;
use crate::error::{BenchError, step};

/// Runs in the machine, with [`ADDRESS`] as its argument.
pub const SCRIPT: &str = include_str!("talk.py");
/// The destination of the machine. A documentation address, which belongs to no host.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
/// The bytes in each direction, in each round.
pub const BYTES: u64 = 256 << 20;
/// The answers, and the connections, of each round.
const ANSWERS: u64 = 50;
const BEGINNINGS: u64 = 10;
/// Two ports that every policy opens by default.
const CONTROL: u16 = 443;
const BEGUN: u16 = 80;
/// The time limit of one step on the slowest machine.
const PATIENCE: Duration = Duration::from_mins(2);
/// The time for which the last round may still hold a port.
const FREED: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(5);

/// A machine that has connected.
#[derive(Debug)]
pub struct Talk {
    machine: TcpStream,
    begun: TcpListener,
    block: Vec<u8>,
}

impl Talk {
    /// Waits for a machine. The port was closed before, so the connection came through the current
    /// rules.
    pub async fn hear(namespace: &Namespace) -> Result<Self, BenchError> {
        let (begun, control) = (listen(namespace, BEGUN).await?, listen(namespace, CONTROL).await?);
        let (machine, _): (_, SocketAddr) =
            patiently("hear of the machine", control.accept()).await?;
        machine.set_nodelay(true).map_err(step("talk to the machine"))?;
        Ok(Self { machine, begun, block: vec![0; 1 << 20] })
    }

    /// The machine sends.
    pub async fn sent(&mut self) -> Result<Duration, BenchError> {
        let began = Instant::now();
        let job = async {
            self.tell(b's', BYTES).await?;
            self.read(BYTES).await
        };
        patiently("take what the machine sends", job).await?;
        Ok(began.elapsed())
    }

    /// The machine receives, and reports when it has all bytes.
    pub async fn received(&mut self) -> Result<Duration, BenchError> {
        let began = Instant::now();
        let job = async {
            self.tell(b't', BYTES).await?;
            let mut left = BYTES;
            while left > 0 {
                let some = usize::try_from(left).unwrap_or(usize::MAX).min(self.block.len());
                self.machine.write_all(self.block.get(..some).unwrap_or_default()).await?;
                left -= some as u64;
            }
            self.read(1).await
        };
        patiently("send to the machine", job).await?;
        Ok(began.elapsed())
    }

    /// The time from a byte to its answer: the median of many.
    pub async fn answered(&mut self) -> Result<Duration, BenchError> {
        let job = async {
            self.tell(b'e', ANSWERS).await?;
            let mut all = Vec::new();
            for _ in 0..ANSWERS {
                let began = Instant::now();
                self.machine.write_all(b".").await?;
                self.read(1).await?;
                all.push(began.elapsed());
            }
            Ok(median(all))
        };
        patiently("be answered by the machine", job).await
    }

    /// The time of a new connection of the machine, by its own clock: the median of some.
    pub async fn begun(&mut self) -> Result<Duration, BenchError> {
        let job = async {
            self.tell(b'b', BEGINNINGS).await?;
            let mut all = Vec::new();
            for _ in 0..BEGINNINGS {
                self.begun.accept().await?;
            }
            for _ in 0..BEGINNINGS {
                all.push(Duration::from_nanos(self.machine.read_u64().await?));
            }
            Ok(median(all))
        };
        patiently("hear how long the machine's connections took", job).await
    }

    async fn tell(&mut self, what: u8, number: u64) -> io::Result<()> {
        let mut message = vec![what];
        message.extend(number.to_be_bytes());
        self.machine.write_all(&message).await
    }

    async fn read(&mut self, count: u64) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            let some = usize::try_from(left).unwrap_or(usize::MAX).min(self.block.len());
            let got = self.machine.read(self.block.get_mut(..some).unwrap_or_default()).await?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= got as u64;
        }
        Ok(())
    }
}

async fn listen(namespace: &Namespace, port: u16) -> Result<TcpListener, BenchError> {
    let deadline = Instant::now() + FREED;
    let bind = move || Ok(std::net::TcpListener::bind((ADDRESS, port)));
    let bound = loop {
        match namespace.within(bind).await? {
            // A new process holds all open files of this one until it calls exec, also the listener
            // of the last round.
            Err(why) if why.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                sleep(AGAIN).await;
            }
            bound => break bound,
        }
    };
    let listener = bound.and_then(|bound| {
        bound.set_nonblocking(true)?;
        TcpListener::from_std(bound)
    });
    listener.map_err(step("listen to the machine"))
}

async fn patiently<T>(
    what: &str,
    job: impl Future<Output = io::Result<T>>,
) -> Result<T, BenchError> {
    match timeout(PATIENCE, job).await {
        Ok(done) => done.map_err(step(what)),
        Err(_) => Err(BenchError::Found(format!(
            "the bench could not {what} within {} s",
            PATIENCE.as_secs()
        ))),
    }
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}
