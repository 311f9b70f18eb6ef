//! The confinement of a machine's QEMU on a real host: its user, the layers around its process, and
//! its limits.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says by panicking what is wrong"
)]

mod changed_limits;
mod layers;
#[path = "../libvirt_host/mod.rs"]
mod libvirt_host;
mod limits;
mod memory;
mod sockets;
#[path = "../stranger/mod.rs"]
mod stranger;
mod strangers;

use std::process::Command;

use agentvm_core::names::{DomainName, GoldenKey};
use agentvm_core::network::Nic;
use agentvm_hypervisor::libvirt::Libvirt;
use agentvm_hypervisor::{
    InputFile, LinkApi, MachineApi, MachineLimits, MachineSpec, ShareApi, Stop, Tier,
};
use libvirt_host::guest::Guest;
use libvirt_host::{TOKEN, TestHost};

/// One of these tests at a time: they share two processors, and one of them measures.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_over_a_qemu_is_in_a_small_room() {
    let _turn = TURN.lock().await;
    let host = TestHost::new();
    let hv = host.connect().await;
    let key = GoldenKey::derive(&["confine"]);
    // With a network, as machines have by default.
    let subnet = hv.subnet().await.unwrap();
    let mut addresses = subnet.machines();
    let mut nic = || addresses.next().map(|address| Nic::nat(&host.instance, &subnet, address));
    let mut template = host.template(&key);
    template.record.nic = nic();
    host.golden_of(&hv, &template).await;
    let specs = [0, 1].map(|slot| {
        let mut spec = host.machine(&key, slot, &format!("nonce-{slot}"));
        (spec.tier, spec.record.nic) = (Tier::InPlace, nic());
        spec
    });
    for spec in &specs {
        let name = &spec.record.name;
        hv.create(spec).await.unwrap();
        let file = InputFile { path: "mine".into(), mode: 0o600, content: b"1".to_vec() };
        hv.put_input(name, vec![file]).await.unwrap();
        hv.resume(name).await.unwrap();
        let mut guest = Guest::open(&hv, name, TOKEN).await;
        let work = "cat /workspace/input/mine && echo made > /workspace/output/made && cat \
            /workspace/output/made";
        assert_eq!(guest.sh(TOKEN, work).await, (Some(0), "1made".to_owned()), "its share works");
    }
    layers::are_there(&specs[0].record);
    strangers::find_nothing_open(&host, &key, &specs);
    sockets::lead_nowhere(pid(&specs[0].record.name));
    for spec in &specs {
        hv.destroy(&spec.record.name, Stop::Force).await.unwrap();
    }
    hv.release().await;
}

/// Two running machines of one golden: one with limits, and its neighbour.
struct Pair {
    host: TestHost,
    hv: Libvirt,
    key: GoldenKey,
    limited: MachineSpec,
    free: MachineSpec,
    bad: Guest,
    good: Guest,
}

impl Pair {
    async fn new(name: &str, limits: MachineLimits) -> Self {
        let host = TestHost::new();
        let hv = host.connect().await;
        let key = GoldenKey::derive(&[name]);
        host.golden(&hv, &key).await;
        let limited =
            MachineSpec { limits, tier: Tier::InPlace, ..host.machine(&key, 0, "nonce-0") };
        let free = host.machine(&key, 1, "nonce-1");
        let (bad, good) = (running(&hv, &limited).await, running(&hv, &free).await);
        // These machines have no network, and the confinement of a machine that has one.
        layers::are_there(&free.record);
        sockets::lead_nowhere(pid(&free.record.name));
        Self { host, hv, key, limited, free, bad, good }
    }

    async fn end(self) {
        for spec in [&self.limited, &self.free] {
            self.hv.destroy(&spec.record.name, Stop::Force).await.unwrap();
        }
        self.hv.release().await;
    }
}

async fn running(hv: &Libvirt, spec: &MachineSpec) -> Guest {
    hv.create(spec).await.unwrap();
    hv.resume(&spec.record.name).await.unwrap();
    Guest::open(hv, &spec.record.name, TOKEN).await
}

/// The process of a machine.
fn pid(name: &DomainName) -> u32 {
    std::fs::read_to_string(format!("/run/libvirt/qemu/{name}.pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

/// The first of these files that the machine's cgroup has: each version of cgroups has its own
/// names.
fn cgroup(name: &DomainName, files: &[&str]) -> String {
    let table = std::fs::read_to_string(format!("/proc/{}/cgroup", pid(name))).unwrap();
    let paths = table
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .filter(|path| path.contains(name.as_str()));
    // Its threads are in groups below the machine's.
    let paths = paths.filter_map(|path| path.split("/emulator").next());
    let folders = paths.flat_map(|path| {
        ["cpu", "cpu,cpuacct", "memory", ""].map(|of| format!("/sys/fs/cgroup/{of}{path}"))
    });
    let mut files =
        folders.flat_map(|folder| files.iter().map(move |file| format!("{folder}/{file}")));
    files.find_map(|file| std::fs::read_to_string(file).ok()).unwrap()
}

/// Fields of `/proc/PID/status`.
fn status(pid: u32, field: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

fn virsh(arguments: &[&str]) -> String {
    let output = Command::new("virsh")
        .args(["-q", "-c", "qemu:///system"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
