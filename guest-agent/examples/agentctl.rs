//! Talks to an agent by hand:
//!
//! ```text
//!   agentctl SOCKET [--root] [--share] [--timeout MILLIS] [--cap BYTES] [--network JSON]
//!                   [--secret FILE] run -- ARGV...
//!       one attempt on a machine of its own; JSON is a GuestNetwork
//!   agentctl SOCKET quiesce | poweroff | hello
//! ```
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a tool for developers: what goes wrong is shown as it is"
)]

#[path = "../tests/session/mod.rs"]
mod session;

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use agentvm_guest_agent::protocol::{RunAs, StreamId};
use session::{DEADLINE, Session, nonce, order};

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
    let mut session = Session::connect(Path::new(socket), Some(TOKEN)).await.expect("a session");
    eprintln!("hello after {:?}: {:?}", start.elapsed(), session.hello);
    match options.last().map(String::as_str) {
        Some("run") => run(&mut session, options, argv).await,
        Some("quiesce") => {
            let answer = session.client.quiesce(nonce(), DEADLINE).await;
            eprintln!("{answer:?} after {:?}", start.elapsed());
        }
        Some("poweroff") => {
            let answer = session.client.power_off(DEADLINE).await;
            eprintln!("{answer:?} after {:?}", start.elapsed());
        }
        _ => {}
    }
}

/// One attempt, from REHYDRATE to RESULT.
async fn run(session: &mut Session, options: &[String], argv: &[String]) {
    let flag = |name: &str| options.iter().any(|word| word == name);
    let value = |name: &str| Some(&options[options.iter().position(|word| word == name)? + 1]);
    let nonce = nonce();
    let network =
        value("--network").map(|text| serde_json::from_str(text).expect("a GuestNetwork"));
    let asked = Instant::now();
    let identity = session.rehydrate_in(&nonce, TOKEN, flag("--share"), network).await;
    identity.expect("the agent takes its identity");
    eprintln!("rehydrated within {:?}", asked.elapsed());
    if let Some(file) = value("--secret") {
        send_secret(session, Path::new(file)).await;
    }
    let mut order = order(&nonce, &argv.iter().map(String::as_str).collect::<Vec<_>>());
    order.run_as = if flag("--root") { RunAs::Root } else { RunAs::Agent };
    order.timeout_millis =
        value("--timeout").map_or(60_000, |text| text.parse().expect("milliseconds"));
    order.max_stdout_bytes = value("--cap").map_or(1 << 20, |text| text.parse().expect("bytes"));
    let begin = Instant::now();
    let mut execution = session.execute(order).await;
    let result = execution.collect(|output| match output.stream {
        StreamId::Stdout => std::io::stdout().write_all(&output.data).expect("stdout"),
        StreamId::Stderr => std::io::stderr().write_all(&output.data).expect("stderr"),
    });
    eprintln!("after {:?}: {:?}", begin.elapsed(), result.await);
}

/// A small file, under its own name.
async fn send_secret(session: &mut Session, file: &Path) {
    let data = std::fs::read(file).expect("a file that can be read");
    let path = file.file_name().and_then(|name| name.to_str()).expect("a name");
    session.client.send_file(path, 0o644, &data, DEADLINE).await.expect("the file is taken");
}
