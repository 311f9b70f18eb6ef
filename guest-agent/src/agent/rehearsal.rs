//! Whole attempts that the host does not see. They warm the way for the first real one: translated
//! code (under emulation each machine translates its own), files in the page cache, and private
//! memory pages.

use std::path::Path;
use std::time::Duration;

use agentvm_guest_agent::protocol::{
    Blob, Decoder, Execute, Frame, GuestAck, GuestMessage, HostMessage, Nonce, OutputChunk, RunAs,
    StreamId, encode,
};
use tokio::time::timeout;

use crate::attempt::Attempt;
use crate::platform::Platform;
use crate::ready::{Ready, StartError};

const PATIENCE: Duration = Duration::from_mins(1);

/// Before a capture: files that runs touch first, so that copies find them in the shared memory.
pub const OF_GOLDEN: [&[&str]; 5] = [
    &["/bin/true"],
    &["/bin/sh", "-c", "true"],
    &["/bin/bash", "-c", "true"],
    &["/usr/bin/python3", "-c", "pass"],
    &["/usr/bin/env", "true"],
];
/// In a machine that is about to be parked: the way of any attempt, as short as it can be.
pub const OF_MACHINE: [&[&str]; 2] = [&["/bin/true"], &["/bin/bash", "-c", "echo"]];

/// Runs them one after the other, each as an attempt of the unprivileged user. A missing command is
/// left out, and a failing one has served its purpose. If nothing can be started at all, that is an
/// error.
pub async fn rehearse(platform: &Platform, commands: &[&[&str]]) -> Result<(), StartError> {
    for argv in commands {
        let there = argv.first().is_some_and(|program| Path::new(program).exists());
        if there && let Some(order) = as_received(order(argv)) {
            platform.follow_the_host();
            let attempt = Ready::parked(platform).await?.execute(platform, &order)?;
            timeout(PATIENCE, finish(attempt)).await.map_err(|_| StartError::Late(PATIENCE))?;
        }
    }
    Ok(())
}

async fn finish(mut attempt: Attempt) {
    while attempt.result().is_none() {
        attempt.advance().await;
    }
    let nonce = attempt.nonce().clone();
    let data = attempt.stdout.replay().read_from(0, usize::MAX).unwrap_or_default();
    let said = [
        Some(GuestMessage::Ack(GuestAck::Execute { nonce })),
        Some(GuestMessage::Output(OutputChunk { stream: StreamId::Stdout, offset: 0, data })),
        attempt.result().cloned().map(GuestMessage::Result),
    ];
    for message in said.into_iter().flatten() {
        if let Ok(frame) = message.into_frame() {
            let _ = through_the_wire(&frame);
        }
    }
}

/// An order as it would come from a host.
fn as_received(order: Execute) -> Option<Execute> {
    let frame = HostMessage::Execute(order).into_frame().ok()?;
    match HostMessage::from_frame(&through_the_wire(&frame)?) {
        Ok(HostMessage::Execute(order)) => Some(order),
        _ => None,
    }
}

fn through_the_wire(frame: &Frame) -> Option<Frame> {
    let (mut bytes, mut decoder) = (Vec::new(), Decoder::new());
    encode(frame, &mut bytes).ok()?;
    decoder.feed(&bytes);
    decoder.next_frame()?.ok()
}

/// Its nonce is never held and never recorded, so it takes no place.
fn order(argv: &[&str]) -> Execute {
    Execute {
        nonce: Nonce::from_bytes([0; 16]),
        argv: argv.iter().map(ToString::to_string).collect(),
        env: Vec::new(),
        cwd: None,
        run_as: RunAs::Agent,
        project: false,
        stdin: None,
        timeout_millis: u64::try_from(PATIENCE.as_millis()).unwrap_or(0),
        grace_millis: 0,
        max_stdout_bytes: 1024,
        max_stderr_bytes: 1024,
        end_bytes: 0,
        max_processes: 0,
        time_unix_nanos: 0,
        entropy: Blob::default(),
    }
}
