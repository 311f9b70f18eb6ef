//! The steps of `setup`, one after the other, as root in the template.

use std::time::Duration;

use agentvm_core::{golden::Step, status::tail};
use agentvm_guest_agent::protocol::{
    AttemptResult, Blob, Execute, GuestAck, GuestMessage, GuestNetwork, HostAck, HostMessage,
    Inspection, Nonce, RunAs, Stop,
};
use agentvm_hypervisor::MachineRecord;
use jiff::Timestamp;
use tokio::time::timeout;

use crate::machines::{Session, SessionError, message_kind, random, rehydrate, unix_nanos};

use super::CaptureError;

const REPLY: Duration = Duration::from_mins(1);
const GRACE: Duration = Duration::from_secs(5);
/// On top of timeout and grace, before the template is given up.
const SLACK: Duration = Duration::from_mins(1);
/// Of each stream, kept for the message.
const KEPT: usize = 2048;
/// Of each stream, at the most.
const MAX_OUTPUT: u64 = 64 << 20;

/// Runs all steps; the first that fails ends it.
pub async fn run_steps(
    session: &mut Session,
    record: &MachineRecord,
    network: Option<GuestNetwork>,
    steps: &[Step],
    mut doing: impl FnMut(String),
) -> Result<(), CaptureError> {
    for (index, step) in steps.iter().enumerate() {
        doing(format!("runs step {} of {} of the setup", index + 1, steps.len()));
        // Each step is an incarnation of its own: the agent executes a nonce once.
        let record =
            MachineRecord { nonce: crate::machines::fresh_nonce()?.to_string(), ..record.clone() };
        rehydrate(session, &record, network.clone(), false)
            .await
            .map_err(CaptureError::Identity)?;
        let limit = Duration::from_secs(u64::from(step.timeout_seconds)) + GRACE + SLACK;
        let ended = timeout(limit, run_step(session, &record, step)).await;
        let (result, output) = ended
            .map_err(|_| failed(index, "did not end in time, and its agent did not say so"))??;
        judge(index, &result, &output)?;
    }
    Ok(())
}

/// Drops what the run of the setup left in memory, makes the agent forget who talked to it, and gives it something to know its
/// golden state by. Returns what it says of its machine then, which is what every copy of it must say.
pub async fn quiesce(session: &mut Session) -> Result<Inspection, SessionError> {
    let golden = crate::machines::fresh_nonce()?;
    let message = HostMessage::Stop(Stop::Quiesce { golden: Some(golden.clone()) });
    let take = |answer: &GuestMessage| match answer {
        GuestMessage::Ack(GuestAck::Quiesce { inspection }) => Some(inspection.clone()),
        _ => None,
    };
    let seen = session.ask(message, REPLY, take).await?;
    let says_so = seen.filter(|inspection| inspection.golden.as_ref() == Some(&golden));
    says_so.ok_or_else(|| {
        SessionError::Unexpected("a QUIESCE that does not say what it leaves".to_owned())
    })
}

async fn run_step(
    session: &mut Session,
    record: &MachineRecord,
    step: &Step,
) -> Result<(AttemptResult, Vec<u8>), CaptureError> {
    let damaged = |_| SessionError::Unexpected("a damaged nonce".to_owned());
    let nonce: Nonce = record.nonce.parse().map_err(damaged)?;
    let message = Execute {
        nonce: nonce.clone(),
        argv: step.command.clone(),
        env: vec![],
        cwd: Some("/root".to_owned()),
        run_as: RunAs::Root,
        stdin: None,
        timeout_millis: u64::from(step.timeout_seconds) * 1000,
        grace_millis: u64::try_from(GRACE.as_millis()).unwrap_or(5000),
        max_stdout_bytes: MAX_OUTPUT,
        max_stderr_bytes: MAX_OUTPUT,
        max_processes: 0,
        time_unix_nanos: unix_nanos(Timestamp::now()),
        entropy: Blob(random::<64>()?.to_vec()),
    };
    let wanted = GuestMessage::Ack(GuestAck::Execute { nonce: nonce.clone() });
    session.request(HostMessage::Execute(message), REPLY, |message| *message == wanted).await?;
    let mut kept = Vec::new();
    loop {
        match session.next().await? {
            GuestMessage::Output(output) => {
                let offset = output.offset.saturating_add(output.data.len() as u64);
                kept.extend_from_slice(&output.data);
                let surplus = kept.len().saturating_sub(KEPT);
                kept.drain(..surplus);
                session
                    .send(HostMessage::Ack(HostAck::Output { stream: output.stream, offset }))
                    .await?;
            }
            GuestMessage::Result(result) if result.nonce == nonce => {
                session.send(HostMessage::Ack(HostAck::Result { nonce })).await?;
                return Ok((result, kept));
            }
            GuestMessage::Status(_) | GuestMessage::Ping(_) | GuestMessage::Ack(_) => {}
            GuestMessage::Error(report) => return Err(SessionError::Refused(report.message).into()),
            other => return Err(SessionError::Unexpected(message_kind(&other).to_owned()).into()),
        }
    }
}

fn judge(index: usize, result: &AttemptResult, output: &[u8]) -> Result<(), CaptureError> {
    let how = match (result.timed_out, result.exit_code, result.signal) {
        (false, Some(0), _) => return Ok(()),
        (true, ..) => "ran longer than its timeoutSeconds".to_owned(),
        (_, Some(code), _) => format!("exited with {code}"),
        (_, None, signal) => format!("ended by signal {}", signal.unwrap_or(0)),
    };
    let why = result.error.clone().unwrap_or_default();
    let (text, _) = tail(output, KEPT / 2);
    Err(failed(index, &format!("{how}; {why} its output ends with: {}", text.trim_end())))
}

fn failed(index: usize, how: &str) -> CaptureError {
    CaptureError::Setup { index, how: how.to_owned() }
}
