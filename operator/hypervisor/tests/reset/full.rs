//! A state directory on a memory file system that fills up. The error names the cause, and nothing
//! is half made.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use agentvm_core::names::GoldenKey;
use agentvm_hypervisor::libvirt::{Libvirt, LibvirtConfig};
use agentvm_hypervisor::{
    CaptureStep, CreateStep, GoldenApi, HookAction, HostApi, HvError, MachineApi, Step, StepHook,
    Stop,
};

use crate::libvirt_host::guest::Guest;
use crate::libvirt_host::{TOKEN, TestHost};

/// Room for a template's budget and a little more.
const SIZE: &str = "size=1800m,mode=711";

struct Small {
    host: TestHost,
    hv: Libvirt,
    /// Where the file system is to be full; once.
    full_at: Arc<Mutex<Option<Step>>>,
}

impl Small {
    async fn new() -> Self {
        let host = TestHost::new();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", SIZE, "tmpfs"])
            .arg(host.dir.path())
            .status();
        assert!(mount.unwrap().success());
        let full_at = Arc::new(Mutex::new(None));
        let (due, root) = (Arc::clone(&full_at), host.dir.path().to_owned());
        let on_step = StepHook::new(move |_, step| {
            if due.lock().unwrap().take_if(|at| *at == step).is_some() {
                fill(&root);
            }
            HookAction::Go
        });
        let hv = Libvirt::connect(LibvirtConfig { on_step, ..host.config() }).await.unwrap();
        Self { host, hv, full_at }
    }

    fn fills_at(&self, step: Step) {
        *self.full_at.lock().unwrap() = Some(step);
    }

    fn empty(&self) {
        std::fs::remove_file(filler(self.host.dir.path())).unwrap();
    }

    fn holds_nothing(&self, of: &str, step: Step) {
        assert_eq!(self.host.domains(), Vec::<String>::new(), "{step:?}");
        assert_eq!(
            std::fs::read_dir(self.host.dir.path().join(of)).unwrap().count(),
            0,
            "{step:?}"
        );
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-q", "-l"]).arg(self.host.dir.path()).status();
    }
}

fn filler(root: &Path) -> PathBuf {
    root.join("filler")
}

fn fill(root: &Path) {
    let mut dd = Command::new("dd");
    dd.args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", filler(root).display()));
    assert!(!dd.output().unwrap().status.success(), "it ends when nothing fits any more");
}

fn is_no_capacity<T: std::fmt::Debug>(done: Result<T, HvError>, step: Step) {
    match done {
        Err(error @ HvError::NoCapacity { .. }) => println!("{step:?}: {error}"),
        other => panic!("{step:?}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_system_is_said_and_leaves_nothing_half_made() {
    let small = Small::new().await;
    let hv = &small.hv;
    let key = GoldenKey::derive(&["full"]);
    let spec = small.host.template(&key);
    for step in [CaptureStep::SaveSnapshot, CaptureStep::Describe].map(Step::Capture) {
        hv.boot_template(&spec).await.unwrap();
        Guest::open(hv, &spec.record.name, TOKEN).await.quiesce().await;
        small.fills_at(step);
        is_no_capacity(hv.capture(&spec.record.name, "").await, step);
        small.empty();
        small.holds_nothing("golden", step);
        small.holds_nothing("machines", step);
    }
    small.host.golden(hv, &key).await;
    let machine = small.host.machine(&key, 0, "nonce");
    fill(small.host.dir.path());
    is_no_capacity(hv.create(&machine).await, Step::Create(CreateStep::LayOut));
    small.empty();
    for step in CreateStep::ALL.map(Step::Create) {
        small.fills_at(step);
        match hv.create(&machine).await {
            // A machine writes next to nothing after its files are laid out.
            Ok(()) => hv.destroy(&machine.record.name, Stop::Force).await.unwrap(),
            failed => is_no_capacity(failed, step),
        }
        small.empty();
        small.holds_nothing("machines", step);
    }
    assert_eq!(hv.sweep().await.unwrap(), Vec::<String>::new());
    hv.release().await;
}
