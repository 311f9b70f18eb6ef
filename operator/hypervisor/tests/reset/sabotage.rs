//! The proof can fail: each of its parts fails, by name, when that part of the reset was left out.
//! Nothing else can reach the golden.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use agentvm_core::names::{DomainName, GoldenKey};
use agentvm_hypervisor::libvirt::{Libvirt, LibvirtConfig, Sabotage};
use agentvm_hypervisor::{
    HookAction, HvError, MachineApi, MachineSpec, Mark, PowerState, Proof, ResetStep, Step,
    StepHook, Stop,
};

use crate::libvirt_host::guest::Guest;
use crate::libvirt_host::{TOKEN, TestHost};
use crate::memory::{own_and_different, pid};

/// The sabotage before the proof is taken.
type Deed = Arc<Mutex<Option<Box<dyn Fn() + Send>>>>;

struct Saboteur {
    host: TestHost,
    hv: Libvirt,
    key: GoldenKey,
    deed: Deed,
}

impl Saboteur {
    async fn new() -> Self {
        let host = TestHost::new();
        let deed = Deed::default();
        let before_proof = Arc::clone(&deed);
        let on_step = StepHook::new(move |_, step| {
            if let (Step::Reset(ResetStep::Prove), Some(deed)) =
                (step, before_proof.lock().unwrap().as_ref())
            {
                deed();
            }
            HookAction::Go
        });
        let hv = Libvirt::connect(LibvirtConfig { on_step, ..host.config() }).await.unwrap();
        let key = GoldenKey::derive(&["sabotage"]);
        host.golden(&hv, &key).await;
        Self { host, hv, key, deed }
    }

    /// A machine that has run something.
    async fn machine(&self) -> MachineSpec {
        let spec = self.host.machine(&self.key, 0, "nonce");
        self.hv.create(&spec).await.unwrap();
        self.hv.resume(&spec.record.name).await.unwrap();
        let mut guest = Guest::open(&self.hv, &spec.record.name, TOKEN).await;
        assert_eq!(guest.sh(TOKEN, "echo mine > /etc/mine; sync; echo ran").await.1, "ran");
        spec
    }

    fn folder(&self, name: &DomainName) -> PathBuf {
        self.host.dir.path().join("machines").join(name.as_str())
    }

    fn golden(&self, file: &str) -> PathBuf {
        self.host.dir.path().join("golden").join(self.key.as_str()).join(file)
    }

    /// The parts of the proof that reject a machine which `hv` resets. The machine is not whole
    /// afterwards, and goes.
    async fn found(
        &self,
        hv: &Libvirt,
        deed: Option<Box<dyn Fn() + Send>>,
        spec: MachineSpec,
    ) -> Vec<String> {
        *self.deed.lock().unwrap() = deed;
        let proof = match hv.reset(&spec).await {
            Err(HvError::NotProven { proof, .. }) => proof,
            other => panic!("{other:?}"),
        };
        *self.deed.lock().unwrap() = None;
        let listed = self.hv.list().await.unwrap();
        assert!(matches!(&listed[0].state, PowerState::Dead { why } if why.contains("reset was \
                interrupted")));
        assert!(matches!(self.hv.resume(&spec.record.name).await, Err(HvError::Refused { .. })));
        self.hv.quarantine(&spec.record.name, 7, "not proven").await.unwrap();
        let kept = self.hv.list().await.unwrap().remove(0);
        assert!(matches!((kept.mark, kept.state), (Mark::Quarantined { .. }, PowerState::Paused)));
        self.hv.destroy(&spec.record.name, Stop::Force).await.unwrap();
        println!("{:?}", proof.failure());
        failed(&proof)
    }

    async fn with(&self, sabotage: Sabotage) -> Vec<String> {
        let hv = Libvirt::connect(LibvirtConfig { sabotage, ..self.host.config() }).await.unwrap();
        let spec = self.machine().await;
        self.found(&hv, None, spec).await
    }
}

fn failed(proof: &Proof) -> Vec<String> {
    proof
        .checks
        .iter()
        .filter(|check| check.result.is_err())
        .map(|check| check.name.clone())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_of_the_proof_catches_what_it_is_for() {
    let test = Saboteur::new().await;
    // QEMU may notice too: rings in memory don't fit the devices that were loaded.
    assert!(test.with(Sabotage::SkipDrop).await.contains(&"memory".to_owned()));
    assert_eq!(test.with(Sabotage::TouchDisk).await, ["disk"]);
    assert!(test.with(Sabotage::WrongSnapshot).await.contains(&"monitor".to_owned()));

    let spec = test.machine().await;
    let overlay = test.folder(&spec.record.name).join("overlay.qcow2");
    let deed = move || change_a_byte_of_the_snapshot(&overlay);
    assert_eq!(test.found(&test.hv, Some(Box::new(deed)), spec).await, ["disk"]);

    let spec = test.machine().await;
    let name = spec.record.name.clone();
    let deed = move || write_to_memory(&name);
    assert_eq!(test.found(&test.hv, Some(Box::new(deed)), spec).await, ["memory"]);

    let spec = test.machine().await;
    let name = spec.record.name.clone();
    let deed = move || monitor(&name, "cont");
    assert!(test.found(&test.hv, Some(Box::new(deed)), spec).await.contains(&"monitor".to_owned()));

    let spec = test.machine().await;
    let note = test.folder(&spec.record.name).join("process.json");
    let older = std::fs::read_to_string(&note).unwrap().replace("\"started\": ", "\"started\": 1");
    std::fs::write(&note, older).unwrap();
    assert_eq!(test.found(&test.hv, None, spec).await, ["process"]);

    a_fault_that_goes_away_is_mended_in_the_second_round(&test).await;
    the_golden_is_out_of_reach(&test).await;
    test.hv.release().await;
}

/// A 9p request in flight does this: its answer comes after the pages were dropped. There is no
/// other way.
async fn a_fault_that_goes_away_is_mended_in_the_second_round(test: &Saboteur) {
    let spec = test.machine().await;
    let name = spec.record.name.clone();
    let once = std::sync::Once::new();
    *test.deed.lock().unwrap() = Some(Box::new(move || once.call_once(|| write_to_memory(&name))));
    let proof = test.hv.reset(&spec).await.unwrap();
    *test.deed.lock().unwrap() = None;
    assert_eq!(proof.failure(), None);
    assert_eq!(proof.steps.iter().filter(|(step, _)| *step == ResetStep::Load).count(), 2);
    test.hv.destroy(&spec.record.name, Stop::Force).await.unwrap();
}

/// The last cluster that the snapshot leads to holds device state.
fn change_a_byte_of_the_snapshot(overlay: &Path) {
    let file = std::fs::File::options().read(true).write(true).open(overlay).unwrap();
    let map = Command::new("qemu-img")
        .args(["info", "-U", "--output=json"])
        .arg(overlay)
        .output()
        .unwrap();
    assert!(map.status.success());
    // Device state is the only place where this text stands.
    let content = std::fs::read(overlay).unwrap();
    let at = content
        .windows(8)
        .position(|window| window == b"slirp\0\0\0")
        .or_else(|| content.windows(5).position(|w| w == b"timer"))
        .unwrap();
    let before = content[at];
    file.write_all_at(&[before ^ 1], at as u64).unwrap();
}

/// Writes to the machine's memory, like a device.
fn write_to_memory(name: &DomainName) {
    let pid = pid(name);
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let line =
        maps.lines().find(|line| line.contains("/golden/") && line.ends_with("/memory")).unwrap();
    let start = u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
    let memory = std::fs::File::options().write(true).open(format!("/proc/{pid}/mem")).unwrap();
    memory.write_all_at(b"x", start + (64 << 20)).unwrap();
}

fn monitor(name: &DomainName, command: &str) {
    let mut virsh = Command::new("virsh");
    virsh.args([
        "-q",
        "-c",
        "qemu:///system",
        "qemu-monitor-command",
        name.as_str(),
        "--hmp",
        command,
    ]);
    assert!(virsh.status().unwrap().success());
}

/// Files, mapping, descriptors and socket, as the user that QEMU runs as finds them.
async fn the_golden_is_out_of_reach(test: &Saboteur) {
    let spec = test.machine().await;
    let name = &spec.record.name;
    let before = content(&test.golden("memory"));
    for file in ["memory", "state", "snapshot.qcow2", "disk.qcow2", "vmlinuz", "initrd.img"] {
        let path = test.golden(file);
        assert!(!as_qemu(name, &["test", "-w", path.to_str().unwrap()]), "{file} can be written");
        assert!(!as_qemu(name, &["rm", "-f", path.to_str().unwrap()]), "{file} can be removed");
        assert!(as_qemu(name, &["test", "-r", path.to_str().unwrap()]), "{file} can't be read");
    }
    let ours = test.folder(name);
    for file in ["token", "process.json", "ready"] {
        assert!(
            !as_qemu(name, &["test", "-w", ours.join(file).to_str().unwrap()]),
            "{file} can be written"
        );
    }
    assert!(
        !as_qemu(name, &["touch", ours.join("parked").to_str().unwrap()]),
        "a mark can be forged"
    );
    let ask = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(10); \
        s.connect(sys.argv[1]); \
        sys.exit(0 if b'may not ask' in s.recv(200) else 1)";
    let socket = ours.join("reset/sock");
    assert!(
        as_qemu(name, &["python3", "-c", ask, socket.to_str().unwrap()]),
        "QEMU's user must be refused"
    );
    assert_eq!(std::fs::metadata(ours.join("reset")).unwrap().permissions().mode() & 0o777, 0o700);
    for n in 0..5 {
        test.hv.reset(&test.host.machine(&test.key, 0, &format!("again-{n}"))).await.unwrap();
        test.hv.resume(name).await.unwrap();
        Guest::open(&test.hv, name, TOKEN)
            .await
            .sh(TOKEN, "head -c 9000000 /dev/urandom > /var/tmp/x; sync")
            .await;
    }
    assert!(!own_and_different(name, &test.golden("memory")).1.is_empty());
    assert!(content(&test.golden("memory")) == before, "machines changed their golden");
    test.hv.destroy(name, Stop::Force).await.unwrap();
}

fn content(file: &Path) -> Vec<u8> {
    std::fs::read(file).unwrap()
}

/// Does a command succeed for the user and groups of a machine's QEMU?
fn as_qemu(name: &DomainName, command: &[&str]) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid(name))).unwrap();
    let id = |field: &str| -> u32 {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    assert_ne!(id("Uid:"), 0);
    Command::new(command[0])
        .args(&command[1..])
        .uid(id("Uid:"))
        .gid(id("Gid:"))
        .status()
        .unwrap()
        .success()
}
