//! Commands to QEMU's monitor through libvirt, and the meaning of their answers.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use virt::domain::Domain;

use super::libvirt_error::LibvirtError;
use crate::HvError;

/// `VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP`
const HMP: u32 = 1;
const POLL: Duration = Duration::from_millis(3);

fn refused(what: &str, detail: &str) -> HvError {
    HvError::Refused { what: what.to_owned(), detail: detail.to_owned() }
}

/// Sends a command. Flags say which of the two monitors reads it.
fn send(domain: &Domain, what: &str, command: &str, flags: u32) -> Result<String, HvError> {
    let answer = domain.qemu_monitor_command(command, flags);
    answer.map_err(LibvirtError).map_err(HvError::failed(what))
}

/// One QMP command; the value of its `return`.
pub fn command(domain: &Domain, execute: &str, arguments: &Value) -> Result<Value, HvError> {
    let text = json!({ "execute": execute, "arguments": arguments }).to_string();
    let answer = send(domain, execute, &text, 0)?;
    interpret(execute, &answer)
}

fn interpret(execute: &str, answer: &str) -> Result<Value, HvError> {
    let mut answer: Value = serde_json::from_str(answer).map_err(HvError::failed(execute))?;
    match answer.get_mut("return") {
        Some(value) => Ok(value.take()),
        None => Err(refused(
            execute,
            answer.pointer("/error/desc").and_then(Value::as_str).unwrap_or("no answer"),
        )),
    }
}

/// One command of the human monitor. It reports errors as text in a successful answer, so any text
/// is an error.
pub fn human(domain: &Domain, line: &str) -> Result<(), HvError> {
    let said = human_text(domain, line)?;
    if said.is_empty() { Ok(()) } else { Err(refused(line, &said)) }
}

/// Like [`human`], for callers that judge the text themselves.
pub fn human_text(domain: &Domain, line: &str) -> Result<String, HvError> {
    let answer = send(domain, line, line, HMP)?;
    Ok(answer.trim().to_owned())
}

/// QEMU's own word for the machine's state: `paused`, `running`, …
pub fn status(domain: &Domain) -> Result<String, HvError> {
    let answer = command(domain, "query-status", &json!({}))?;
    Ok(answer.get("status").and_then(Value::as_str).unwrap_or("unknown").to_owned())
}

/// Writes a block to a machine's disk behind the guest's back. For tests of the proof.
pub fn write_to_disk(domain: &Domain) -> Result<(), HvError> {
    human(domain, "qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend \"write -P 90 0 4k\"")
}

/// Sets the bytes that a machine's disk may read and write in a second from now on; 0 means no
/// limit. libvirt has a call for it that the binding lacks; libvirt asks QEMU for the value in
/// force.
pub fn throttle_disk(domain: &Domain, bytes_per_second: u64) -> Result<(), HvError> {
    let disk = "/machine/peripheral/virtio-disk0/virtio-backend";
    let wanted = json!({
        "id": disk, "bps": bytes_per_second, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0,
            "iops_wr": 0
    });
    command(domain, "block_set_io_throttle", &wanted).map(drop)
}

/// RAM that stands in a file isn't copied into the migration stream.
pub fn ignore_shared(domain: &Domain) -> Result<(), HvError> {
    let wanted = json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": true }] });
    command(domain, "migrate-set-capabilities", &wanted).map(drop)
}

/// After a load, QEMU would announce the machine to the network. Only for machines whose guest does
/// not announce itself (`guest_announce=off`): otherwise QEMU 10.0 crashes at the next load, by the
/// driver's timer.
pub fn announce_nothing(domain: &Domain) -> Result<(), HvError> {
    command(domain, "migrate-set-parameters", &json!({ "announce-rounds": 0 })).map(drop)
}

/// Where a migration stands.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Completed,
    Going,
    Failed(String),
}

fn progress(answer: &Value) -> Progress {
    match answer.get("status").and_then(Value::as_str) {
        Some("completed") => Progress::Completed,
        Some("failed" | "cancelled") => {
            let why =
                answer.get("error-desc").and_then(Value::as_str).unwrap_or("it gives no reason");
            Progress::Failed(why.to_owned())
        }
        _ => Progress::Going,
    }
}

/// Waits until the migration (out or in) is through.
pub fn wait_migrated(domain: &Domain, deadline: Instant) -> Result<(), HvError> {
    loop {
        match progress(&command(domain, "query-migrate", &json!({}))?) {
            Progress::Completed => return Ok(()),
            Progress::Failed(why) => return Err(refused("move a machine's state", &why)),
            Progress::Going if Instant::now() > deadline => {
                return Err(refused("move a machine's state", "it did not end in time"));
            }
            Progress::Going => std::thread::sleep(POLL),
        }
    }
}

/// Ends QEMU from inside, without libvirt's loop that waits for its exit status. The answer may get
/// lost with the process.
pub fn quit(domain: &Domain) {
    let _ = command(domain, "quit", &json!({}));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_they_say() {
        assert_eq!(
            interpret("x", r#"{"return":{"a":1},"id":"libvirt-1"}"#).unwrap(),
            json!({"a": 1})
        );
        let failed = interpret("x", r#"{"error":{"class":"GenericError","desc":"no such file"}}"#)
            .unwrap_err();
        assert!(failed.to_string().contains("no such file"));
        assert!(interpret("x", "garbage").is_err());
        assert_eq!(progress(&json!({"status": "completed"})), Progress::Completed);
        assert_eq!(progress(&json!({"status": "active"})), Progress::Going);
        assert_eq!(progress(&json!({})), Progress::Going);
        assert_eq!(
            progress(&json!({"status": "failed", "error-desc": "x"})),
            Progress::Failed("x".into())
        );
    }
}
