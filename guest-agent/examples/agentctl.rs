//! Talks to an agent by hand:
//!
//! ```text
//!   agentctl SOCKET [--root] [--share] [--timeout MILLIS] [--cap BYTES] [--network JSON] [--secret FILE] run -- ARGV...
//!                                                        one attempt on a machine of its own; JSON is a GuestNetwork
//!   agentctl SOCKET quiesce | poweroff | hello
//! ```
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a tool for developers: what goes wrong is shown as it is"
)]

#[path = "../tests/client/mod.rs"]
mod client;

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use agentvm_guest_agent::protocol::{FileChunk, GuestAck, GuestMessage, HostMessage, RunAs, Stop};
use client::{Client, Collected, nonce, order};

/// Fixed, so that one call after the other reaches the same machine.
const TOKEN: &str = "agentctl";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let split = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let (options, argv) = (&words[..split], words.get(split + 1..).unwrap_or_default());
    let [socket, ..] = options else {
        panic!("agentctl SOCKET [options] run -- ARGV... | quiesce | poweroff | hello")
    };
    let start = Instant::now();
    let mut client = Client::connect(Path::new(socket), Some(TOKEN)).await.expect("a session");
    eprintln!("hello after {:?}: {:?}", start.elapsed(), client.hello);
    let value = |name: &str| Some(&options[options.iter().position(|word| word == name)? + 1]);
    match options.last().map(String::as_str) {
        Some("run") => {
            let nonce = nonce();
            let share = options.iter().any(|word| word == "--share");
            let network =
                value("--network").map(|text| serde_json::from_str(text).expect("a GuestNetwork"));
            let asked = Instant::now();
            let answer = client.rehydrate_in(&nonce, TOKEN, share, network).await;
            assert!(matches!(answer, GuestMessage::Ack(GuestAck::Rehydrate { .. })), "{answer:?}");
            eprintln!("rehydrated within {:?}", asked.elapsed());
            if let Some(file) = value("--secret") {
                send_secret(&mut client, Path::new(file)).await;
            }
            let mut order = order(&nonce, &argv.iter().map(String::as_str).collect::<Vec<_>>());
            order.run_as = if options.iter().any(|word| word == "--root") {
                RunAs::Root
            } else {
                RunAs::Agent
            };
            order.timeout_millis =
                value("--timeout").map_or(60_000, |text| text.parse().expect("milliseconds"));
            order.max_stdout_bytes =
                value("--cap").map_or(1 << 20, |text| text.parse().expect("bytes"));
            let (begin, mut collected) = (Instant::now(), Collected::default());
            client.execute(order).await;
            client.collect(&mut collected).await;
            std::io::stdout().write_all(&collected.stdout).expect("stdout");
            std::io::stderr().write_all(&collected.stderr).expect("stderr");
            eprintln!("after {:?}: {:?}", begin.elapsed(), collected.result);
        }
        Some("quiesce") => client.say(HostMessage::Stop(Stop::Quiesce { golden: None })).await,
        Some("poweroff") => client.say(HostMessage::Stop(Stop::PowerOff)).await,
        _ => {}
    }
    if matches!(options.last().map(String::as_str), Some("quiesce" | "poweroff")) {
        eprintln!("{:?} after {:?}", client.hear().await, start.elapsed());
    }
}

/// A small file, under its own name.
async fn send_secret(client: &mut Client, file: &Path) {
    let data = std::fs::read(file).expect("a file that can be read");
    let path = file.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let size = data.len() as u64;
    client.say(HostMessage::File(FileChunk { path, mode: 0o644, size, offset: 0, data })).await;
    let answer = client.hear().await;
    assert!(matches!(answer, Some(GuestMessage::Ack(GuestAck::File { .. }))), "{answer:?}");
}
