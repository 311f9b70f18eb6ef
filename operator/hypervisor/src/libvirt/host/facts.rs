//! The facts of this host: versions, CPU, memory, and the accelerator that passed the probe.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use virt::connect::Connect;

use crate::libvirt::connection::config::LibvirtConfig;
use crate::libvirt::connection::domain::refused;
use crate::libvirt::qemu::kvm_probe;
use crate::libvirt::store::image::Image;
use crate::libvirt::store::state_folder::StateFolder;
use crate::locks::lock;
use crate::{HostFacts, HvError};

/// Looks at the host once in the life of a process.
#[derive(Debug)]
pub struct FactsProbe {
    /// The default guest image, whose kernel the probe of KVM boots.
    image: Option<PathBuf>,
    emulator: PathBuf,
    /// The file that keeps the result of the probe.
    verdict: PathBuf,
    known: OnceLock<HostFacts>,
    /// Two threads must not probe KVM at once: each would disturb the other's timing.
    looking: Mutex<()>,
}

impl FactsProbe {
    pub fn new(config: &LibvirtConfig, folder: &StateFolder) -> Self {
        Self {
            image: config.image.clone(),
            emulator: config.emulator.clone(),
            verdict: folder.accelerator(),
            known: OnceLock::new(),
            looking: Mutex::default(),
        }
    }

    pub fn get(&self, conn: &Connect) -> Result<HostFacts, HvError> {
        if let Some(known) = self.known.get() {
            return Ok(known.clone());
        }
        let _looking = lock(&self.looking);
        if let Some(known) = self.known.get() {
            return Ok(known.clone());
        }
        let found = self.look(conn)?;
        Ok(self.known.get_or_init(|| found).clone())
    }

    fn look(&self, conn: &Connect) -> Result<HostFacts, HvError> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let qemu_version = version(conn.hyp_version().map_err(refused("ask for QEMU's version"))?);
        let libvirt_version =
            version(conn.lib_version().map_err(refused("ask for libvirt's version"))?);
        let kernel_version = read("/proc/sys/kernel/osrelease").trim().to_owned();
        let cpu_model = cpu_model(&read("/proc/cpuinfo"));
        let image = self.image.as_deref().and_then(|folder| Image::open(folder).ok());
        let guest_kernel = image
            .as_ref()
            .map(|image| format!("{} {}", image.kernel.display(), image.rootfs_sha256));
        let mut key = vec![qemu_version.clone(), kernel_version.clone(), cpu_model.clone()];
        key.extend(guest_kernel);
        let kernel = image.as_ref().map(|image| image.kernel.as_path());
        Ok(HostFacts {
            accelerator: kvm_probe::decide(&self.verdict, key, &self.emulator, kernel),
            cpus: std::thread::available_parallelism()
                .map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
            memory_mib: memory_mib(&read("/proc/meminfo")),
            vsock: fs::OpenOptions::new().read(true).write(true).open("/dev/vhost-vsock").is_ok(),
            qemu_version,
            libvirt_version,
            kernel_version,
            cpu_model,
        })
    }
}

/// libvirt packs three numbers into one.
fn version(packed: u32) -> String {
    format!("{}.{}.{}", packed / 1_000_000, packed / 1000 % 1000, packed % 1000)
}

fn cpu_model(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    line.and_then(|rest| rest.split_once(':')).map_or("unknown", |(_, name)| name.trim()).to_owned()
}

fn memory_mib(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_tables_are_read() {
        assert_eq!(version(11_003_000), "11.3.0");
        assert_eq!(
            cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"),
            "Some CPU @ 2 GHz"
        );
        assert_eq!(memory_mib("MemTotal:       24683600 kB\n"), 24105);
    }
}
