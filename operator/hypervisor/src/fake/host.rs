//! The fake's host: invented facts, and the removal of debris.

use super::store::{HALF, Store};
use super::{FakeHypervisor, Op};
use crate::files::{names_in, remove_tree};
use crate::{Accelerator, DiskUse, HostApi, HostFacts, HvError, MachineKind};

#[async_trait::async_trait]
impl HostApi for FakeHypervisor {
    async fn facts(&self) -> Result<HostFacts, HvError> {
        self.call(Op::Facts, |_| Ok(facts())).await
    }

    async fn health(&self) -> Result<(), HvError> {
        self.call(Op::Health, |_| Ok(())).await
    }

    async fn sweep(&self) -> Result<Vec<String>, HvError> {
        self.call(Op::Sweep, Store::sweep).await
    }

    async fn disk(&self) -> Result<DiskUse, HvError> {
        self.call(Op::Disk, |store| Ok(store.knobs.disk(&store.dir))).await
    }
}

fn facts() -> HostFacts {
    HostFacts {
        qemu_version: "0.0.0-fake".to_owned(),
        libvirt_version: "0.0.0-fake".to_owned(),
        kernel_version: "fake".to_owned(),
        accelerator: Accelerator::Tcg { why: "machines are processes".to_owned() },
        cpu_model: "fake".to_owned(),
        cpus: 4,
        memory_mib: 16 * 1024,
        vsock: false,
    }
}

impl Store {
    /// Like libvirt's: removes half captures, templates that no operator drives any more, and
    /// folders without a record.
    fn sweep(&self) -> Result<Vec<String>, HvError> {
        let mut swept = Vec::new();
        for kept in self.records().into_iter().filter(|k| k.record.kind == MachineKind::Template) {
            self.destroy(&kept.record.name)?;
            swept.push(format!("template {}", kept.record.name));
        }
        let (machines, goldens) = (self.dir.join("machines"), self.dir.join("goldens"));
        let half_machines = names_in(&machines).into_iter().map(|name| machines.join(name));
        let half_goldens = names_in(&goldens).into_iter().filter(|name| name.starts_with(HALF));
        let debris = half_machines.filter(|dir| !dir.join("record.json").exists());
        for path in debris.chain(half_goldens.map(|name| goldens.join(name))) {
            remove_tree(&path)?;
            swept.push(path.display().to_string());
        }
        Ok(swept)
    }
}
