//! Reads processors, memory, user, devices, security modules and clock from `/proc`, `/sys` and
//! `/dev`.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{command, swap};
use crate::clock::Clock;
use crate::doctor::observed::{Device, Devices, Host, HostClock, Security, User};

/// Modules whose absence the doctor reports.
const MODULES: [&str; 6] = ["kvm", "kvm_intel", "kvm_amd", "vhost_vsock", "loop", "nf_tables"];

pub(super) fn host() -> Host {
    let cpu = read("/proc/cpuinfo");
    let memory = read("/proc/meminfo");
    let loaded = read("/proc/modules");
    Host {
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        cpu_model: field(&cpu, "model name").unwrap_or("unknown").to_owned(),
        virtualisation: virtualisation(field(&cpu, "flags").unwrap_or_default()),
        memory_mib: mib(&memory, "MemTotal"),
        available_mib: mib(&memory, "MemAvailable"),
        kernel: kernel(),
        modules: MODULES
            .iter()
            .filter(|module| is_loaded(&loaded, module))
            .map(ToString::to_string)
            .collect(),
        nftables: command::output("nft", &["--version"])
            .ok()
            .and_then(|text| Some(text.lines().next()?.to_owned())),
        swaps: swap::all(),
        open_files: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum,
    }
}

/// The running kernel's release.
pub fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

pub(super) fn user() -> User {
    let text = |flag: &str| {
        command::output("id", &[flag]).map(|text| text.trim().to_owned()).unwrap_or_default()
    };
    User {
        name: text("-un"),
        root: rustix::process::geteuid().is_root(),
        groups: text("-nG").split_whitespace().map(str::to_owned).collect(),
    }
}

pub(super) fn devices() -> Devices {
    Devices {
        kvm: device("/dev/kvm"),
        vhost_vsock: device("/dev/vhost-vsock"),
        loop_control: device("/dev/loop-control"),
    }
}

pub(super) fn security() -> Security {
    let selinux = fs::read_to_string("/sys/fs/selinux/enforce").ok().map(|text| text.trim() == "1");
    Security { apparmor: read("/sys/module/apparmor/parameters/enabled").trim() == "Y", selinux }
}

pub(super) fn clock() -> HostClock {
    let seconds = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok())
    };
    let built =
        std::env::current_exe().and_then(fs::metadata).and_then(|meta| meta.modified()).ok();
    HostClock {
        now: Clock::system().now().as_second(),
        built: built.and_then(seconds),
        synchronised: synchronised(),
    }
}

fn synchronised() -> Option<bool> {
    let said =
        command::output("timedatectl", &["show", "--property=NTPSynchronized", "--value"]).ok()?;
    match said.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn device(path: &str) -> Device {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Device::Usable,
        Err(error) if error.kind() == ErrorKind::NotFound => Device::Absent,
        Err(error) => Device::Refused(error.to_string()),
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line =
        text.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

fn mib(meminfo: &str, name: &str) -> u64 {
    let kib = field(meminfo, name).and_then(|value| value.split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

fn virtualisation(flags: &str) -> Option<&'static str> {
    ["vmx", "svm"].into_iter().find(|wanted| flags.split(' ').any(|flag| flag == *wanted))
}

fn is_loaded(modules: &str, name: &str) -> bool {
    let listed = modules.lines().any(|line| line.split(' ').next() == Some(name));
    listed || std::path::Path::new("/sys/module").join(name).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read_as_the_kernel_writes_them() {
        let cpu = "processor\t: 0\nmodel name\t: A CPU: 3\nflags\t\t: fpu svm npt\n";
        assert_eq!(field(cpu, "model name"), Some("A CPU: 3"));
        assert_eq!(virtualisation(field(cpu, "flags").unwrap()), Some("svm"));
        assert_eq!(virtualisation("fpu vmx_not"), None);
        assert_eq!(mib("MemTotal:       2097152 kB\n", "MemTotal"), 2048);
        assert!(
            is_loaded("kvm 123 0 - Live\n", "kvm") && !is_loaded("kvm_x 1\n", "no_such_module")
        );
    }

    #[test]
    fn this_host_has_a_processor_memory_and_a_user() {
        let host = host();
        assert!(host.cpus > 0 && host.memory_mib > 0 && !host.kernel.is_empty());
        assert!(!user().name.is_empty());
        assert_eq!(device("/dev/null"), Device::Usable);
        assert_eq!(device("/dev/no-such-device"), Device::Absent);
    }
}
