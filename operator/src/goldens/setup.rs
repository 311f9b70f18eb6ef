//! The steps of `setup`, one after the other, as root in the template.

use std::time::Duration;

use agentvm_core::{golden::Step, status::tail};
use agentvm_guest_agent::protocol::{Execute, GuestNetwork, Nonce, RunAs, WireResult};
use agentvm_hypervisor::MachineRecord;
use agentvm_types::one_line;
use tokio::time::timeout;

use crate::{
    agent::{Session, fresh_nonce, millis, program, rehydrate},
    clock::Clock,
};

use super::CaptureError;

const REPLY: Duration = Duration::from_mins(1);
const GRACE: Duration = Duration::from_secs(5);
/// A step has this time on top of timeout and grace before the template is given up.
const SLACK: Duration = Duration::from_mins(1);
/// The bytes of the output that are kept for the message.
const KEPT: usize = 2048;
/// The limit of each stream.
const MAX_OUTPUT: u64 = 64 << 20;

/// A template whose setup runs.
pub struct Setup<'a> {
    pub session: &'a mut Session,
    pub record: &'a MachineRecord,
    pub network: Option<GuestNetwork>,
    pub clock: &'a Clock,
    /// The time of all steps together.
    pub limit: Duration,
}

impl Setup<'_> {
    /// Runs all steps. The first that fails ends the setup.
    pub async fn run(
        &mut self,
        steps: &[Step],
        mut doing: impl FnMut(String),
    ) -> Result<(), CaptureError> {
        let over = self.clock.instant() + self.limit;
        let too_long = format!(
            "the steps together took longer than {} seconds (golden.setup_timeout of the \
                operator's configuration), and were ended",
            self.limit.as_secs()
        );
        for (index, step) in steps.iter().enumerate() {
            doing(format!("runs step {} of {} of the setup", index + 1, steps.len()));
            let nonce = self.begin_incarnation().await?;
            let limit = Duration::from_secs(u64::from(step.timeout_seconds)) + GRACE + SLACK;
            let left = over.saturating_duration_since(self.clock.instant());
            let ended = timeout(limit.min(left), self.run_step(nonce, step)).await;
            let (result, output) = ended.map_err(|_| {
                let silent = "did not end in time, and its agent did not say so";
                failed(index, if left < limit { &too_long } else { silent })
            })??;
            check_result(index, &result, &output)?;
        }
        Ok(())
    }

    /// Each step is an incarnation of its own: the agent executes a nonce once.
    async fn begin_incarnation(&mut self) -> Result<Nonce, CaptureError> {
        let nonce = fresh_nonce()?;
        let record = MachineRecord { nonce: nonce.clone(), ..self.record.clone() };
        let network = self.network.clone();
        rehydrate(self.session, &record, network, false, self.clock.now())
            .await
            .map_err(CaptureError::Identity)?;
        Ok(nonce)
    }

    async fn run_step(
        &mut self,
        nonce: Nonce,
        step: &Step,
    ) -> Result<(WireResult, Vec<u8>), CaptureError> {
        let message = Execute {
            cwd: Some("/root".to_owned()),
            run_as: RunAs::Root,
            timeout_millis: u64::from(step.timeout_seconds) * 1000,
            grace_millis: millis(GRACE),
            max_stdout_bytes: MAX_OUTPUT,
            max_stderr_bytes: MAX_OUTPUT,
            end_bytes: MAX_OUTPUT / 2,
            ..program(nonce, step.command.clone(), self.clock.now())?
        };
        let mut kept = Vec::new();
        let mut execution = self.session.execute(message, REPLY).await?;
        let result = execution.collect(|output| keep_end(&mut kept, &output.data)).await?;
        Ok((result, kept))
    }
}

fn keep_end(kept: &mut Vec<u8>, data: &[u8]) {
    kept.extend_from_slice(data);
    let surplus = kept.len().saturating_sub(KEPT);
    kept.drain(..surplus);
}

fn check_result(index: usize, result: &WireResult, output: &[u8]) -> Result<(), CaptureError> {
    let how = match (result.timed_out, result.exit_code, result.signal) {
        (false, Some(0), _) => return Ok(()),
        (true, ..) => "ran longer than its timeoutSeconds".to_owned(),
        (_, Some(code), _) => format!("exited with {code}"),
        (_, None, signal) => format!("ended by signal {}", signal.unwrap_or(0)),
    };
    let why = result.error.clone().unwrap_or_default();
    let (text, _) = tail(output, KEPT / 2);
    // The author of a setup writes this text: it goes into the log and into a status.
    let text = one_line(text.trim_end(), KEPT);
    Err(failed(index, &format!("{how}; {why} its output ends with: {text}")))
}

fn failed(index: usize, how: &str) -> CaptureError {
    CaptureError::Setup { index, how: how.to_owned() }
}

#[cfg(test)]
mod tests {
    use agentvm_guest_agent::protocol::StreamTotals;

    use super::*;

    #[test]
    fn the_output_of_a_setup_forges_no_line_of_the_log() {
        let totals = StreamTotals::default();
        let result = WireResult {
            nonce: Nonce::from_bytes([1; 16]),
            exit_code: Some(1),
            signal: None,
            timed_out: false,
            stopped: false,
            oom_killed: None,
            duration_millis: 1,
            stdout: totals,
            stderr: totals,
            error: Some("x\n".repeat(1 << 20).into()),
        };
        let output = "\u{1b}[2J\n2026 ERROR forged\r\n".repeat(1 << 16);
        let why = check_result(0, &result, output.as_bytes()).unwrap_err().to_string();
        assert!(why.len() <= 2 * KEPT && !why.chars().any(char::is_control), "{why}");
        assert!(why.contains(r"\n2026 ERROR forged"), "people still read it: {why}");
    }
}
