//! The QEMU process of a machine, as the kernel knows it: libvirt's pid file names it, and its
//! start time tells it from any other.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use agentvm_core::names::DomainName;
use agentvm_files::ProcessStat;
use agentvm_types::hex;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::HvError;
use crate::files::{io, read_json, write_json};
use crate::libvirt::store::state_folder::MachineDir;

/// Where the system's libvirtd writes its pid files; root's.
const PIDS: &str = "/run/libvirt/qemu";

/// The facts of a process that never change during its life, and differ from those of another
/// process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    pub pid: u32,
    /// In the kernel's ticks since it booted.
    pub started: u64,
    /// SHA-256 of its arguments.
    pub command_line: String,
    pub program: PathBuf,
    /// Device and inode.
    pub program_file: (u64, u64),
}

impl Identity {
    pub fn of(pid: u32) -> Result<Self, HvError> {
        let proc = folder(pid);
        let stat = fs::read_to_string(proc.join("stat")).map_err(io("read", &proc.join("stat")))?;
        let arguments =
            fs::read(proc.join("cmdline")).map_err(io("read", &proc.join("cmdline")))?;
        let exe = proc.join("exe");
        let file = fs::metadata(&exe).map_err(io("look at", &exe))?;
        Ok(Self {
            pid,
            started: ProcessStat::parse(&stat).ok_or_else(|| unreadable(pid))?.started,
            command_line: hex(&Sha256::digest(&arguments)),
            program: fs::read_link(&exe).map_err(io("read", &exe))?,
            program_file: (file.dev(), file.ino()),
        })
    }
}

fn unreadable(pid: u32) -> HvError {
    let detail = "the kernel's table isn't in the form that is known".to_owned();
    HvError::Refused { what: format!("look at process {pid}"), detail }
}

pub fn folder(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// The process that libvirt runs for a machine now. If libvirt sees other process IDs than we do,
/// the number belongs to another process, or to none.
pub fn pid(name: &DomainName) -> Result<u32, HvError> {
    let file = Path::new(PIDS).join(format!("{name}.pid"));
    let text = fs::read_to_string(&file).map_err(io("read", &file))?;
    let pid = text.trim().parse().ok();
    let runs = |pid: &u32| {
        fs::read(folder(*pid).join("cmdline")).is_ok_and(|arguments| is_of(&arguments, name))
    };
    pid.filter(runs).ok_or_else(|| HvError::Refused {
        what: format!("find the process of machine {name}"),
        detail: format!(
            "process {} isn't it; agentvm must see libvirt's processes (in a cluster: share the \
                process namespace)",
            text.trim()
        ),
    })
}

/// libvirt names the guest in QEMU's arguments.
fn is_of(arguments: &[u8], name: &DomainName) -> bool {
    let wanted = format!("guest={name},");
    arguments.split(|byte| *byte == 0).any(|argument| argument.starts_with(wanted.as_bytes()))
}

/// Kills it at once. libvirt would first ask it and wait ten seconds, and answer no question about
/// domains meanwhile.
pub fn kill(name: &DomainName) -> Result<(), HvError> {
    let failed = |source: Errno| HvError::Io {
        what: format!("end the process of machine {name}"),
        source: source.into(),
    };
    let number = i32::try_from(pid(name)?)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(Errno::SRCH)
        .map_err(failed)?;
    let process = pidfd_open(number, PidfdFlags::empty()).map_err(failed)?;
    // The handle holds the machine's process, and not a later process with its number.
    pid(name)?;
    pidfd_send_signal(&process, Signal::KILL).map_err(failed)
}

/// Notes the process that a machine was made in.
pub fn remember(dir: &MachineDir, name: &DomainName) -> Result<(), HvError> {
    write_json(&dir.process(), &Identity::of(pid(name)?)?)
}

/// The process that the machine was made in, whether it is still there or not.
pub fn remembered(dir: &MachineDir) -> Option<Identity> {
    read_json(&dir.process())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_machine_s_process_isn_t_this_one_s() {
        let name = DomainName::from_recorded("avm-1-2-3");
        assert!(is_of(b"qemu\0-name\0guest=avm-1-2-3,debug-threads=on\0", &name));
        assert!(!is_of(b"qemu\0-name\0guest=avm-1-2-33,debug-threads=on\0", &name));
        assert!(!is_of(b"grep\0x guest=avm-1-2-3,\0", &name));
        assert!(pid(&name).is_err());
    }
}
