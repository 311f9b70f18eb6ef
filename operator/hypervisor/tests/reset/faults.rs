//! QEMU, libvirtd or the operator is killed in the middle. No unproven machine is lent, and nothing
//! stays behind.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use agentvm_core::names::{DomainName, GoldenKey};
use agentvm_hypervisor::libvirt::{Libvirt, LibvirtConfig};
use agentvm_hypervisor::{
    CreateStep, HookAction, HostApi, HvError, MachineApi, Mark, PowerState, ResetStep, Step,
    StepHook, Stop,
};

use crate::libvirt_host::guest::Guest;
use crate::libvirt_host::{TOKEN, TestHost};
use crate::private::{Libvirtd, libvirtd};

const TRIALS: u64 = 15;
/// Print and change it to walk other ways.
const SEED: u64 = 20_261_121;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Qemu,
    Libvirtd,
    Operator,
}

#[derive(Clone, Copy, Debug)]
struct Fault {
    step: Step,
    victim: Victim,
    /// After the step has begun; a step takes milliseconds.
    delay: Duration,
}

/// Spreads the bits of a counter.
fn random(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Each victim in turn, at any step, somewhere in it.
fn fault(trial: u64) -> Fault {
    let steps: Vec<Step> = CreateStep::ALL
        .map(Step::Create)
        .into_iter()
        .chain(ResetStep::ALL.map(Step::Reset))
        .collect();
    let dice = random(SEED + trial);
    Fault {
        step: steps[usize::try_from(dice % steps.len() as u64).unwrap()],
        victim: [Victim::Qemu, Victim::Libvirtd, Victim::Operator]
            [usize::try_from(trial % 3).unwrap()],
        delay: Duration::from_millis((dice >> 32) % 12),
    }
}

/// A process that this test started, itself or through its libvirtd.
fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// The threads that are about to kill a victim.
type Strikes = Arc<Mutex<Vec<JoinHandle<()>>>>;

fn strike(name: &DomainName, fault: Fault, libvirtd: u32, strikes: &Strikes) -> HookAction {
    let pid = match fault.victim {
        Victim::Operator => return HookAction::Die,
        Victim::Libvirtd => Some(libvirtd),
        // Before QEMU starts there is no process.
        Victim::Qemu => std::fs::read_to_string(format!("/run/libvirt/qemu/{name}.pid"))
            .ok()
            .map(|p| p.trim().parse().unwrap()),
    };
    if let Some(pid) = pid {
        strikes.lock().unwrap().push(std::thread::spawn(move || {
            std::thread::sleep(fault.delay);
            kill(pid);
        }));
    }
    HookAction::Go
}

/// An operator that meets `fault` once.
async fn doomed(host: &TestHost, fault: Fault, libvirtd: u32, strikes: &Strikes) -> Libvirt {
    let (armed, strikes) = (Arc::new(Mutex::new(Some(fault))), Arc::clone(strikes));
    let on_step = StepHook::new(move |name, step| {
        let due = armed.lock().unwrap().take_if(|fault| fault.step == step);
        due.map_or(HookAction::Go, |fault| strike(name, fault, libvirtd, &strikes))
    });
    Libvirt::connect(LibvirtConfig { on_step, ..host.config() }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_nothing_unproven_is_lent_and_nothing_is_left() {
    let Some(mut libvirtd) =
        libvirtd("faults::whoever_is_killed_nothing_unproven_is_lent_and_nothing_is_left")
    else {
        return;
    };
    let host = TestHost::new();
    let key = GoldenKey::derive(&["faults"]);
    let hv = host.connect().await;
    host.golden(&hv, &key).await;
    drop(hv);
    for trial in 0..TRIALS {
        one_trial(&host, &key, fault(trial), &mut libvirtd).await;
    }
    host.connect().await.release().await;
}

async fn one_trial(host: &TestHost, key: &GoldenKey, fault: Fault, libvirtd: &mut Libvirtd) {
    let strikes = Strikes::default();
    let hv = doomed(host, fault, libvirtd.pid(), &strikes).await;
    let made = host.machine(key, 0, "first");
    let name = &made.record.name;
    let mut ended = hv.create(&made).await;
    if matches!(fault.step, Step::Reset(_)) {
        ended.unwrap();
        hv.resume(name).await.unwrap();
        Guest::open(&hv, name, TOKEN).await.sh(TOKEN, "echo mine > /etc/mine; sync").await;
        hv.park(name, "of the run before").await.unwrap();
        ended = hv.reset(&host.machine(key, 0, "second")).await.map(drop);
    }
    println!("{fault:?}: {:?}", ended.as_ref().map_err(ToString::to_string));
    drop(hv);
    let struck: Vec<_> =
        strikes.lock().unwrap().drain(..).map(|strike| strike.join().unwrap()).collect();
    if fault.victim == Victim::Libvirtd && !struck.is_empty() {
        libvirtd.again();
    }
    let next = host.connect().await;
    if fault.victim == Victim::Qemu {
        gone(&next, name, ended.is_err()).await;
    }
    nothing_is_said_to_be_good(&next, &ended, fault).await;
    // An operator does this with machines that are neither claimed nor parked.
    for machine in next.list().await.unwrap() {
        next.destroy(&machine.record.name, Stop::Force).await.unwrap();
    }
    next.sweep().await.unwrap();
    nothing_is_left(host, &fault);
}

/// libvirt notices the end of a process a moment later. A process that was struck before it existed
/// lives, and nothing was `noticed`.
async fn gone(hv: &Libvirt, name: &DomainName, noticed: bool) {
    let dead = |state: &PowerState| matches!(state, PowerState::Dead { .. } | PowerState::Absent);
    let patience = Duration::from_secs(if noticed { 60 } else { 3 });
    let gone = hv.wait_for(name, patience, dead).await;
    assert!(gone.is_ok() || !noticed, "{gone:?}");
}

async fn nothing_is_said_to_be_good(hv: &Libvirt, ended: &Result<(), HvError>, fault: Fault) {
    let untouched = fault.victim == Victim::Operator && fault.step == Step::Reset(ResetStep::Enter);
    for machine in hv.list().await.unwrap() {
        assert!(untouched || machine.mark == Mark::None, "{fault:?}: {machine:?}");
        if ended.is_err() && !untouched {
            assert!(matches!(machine.state, PowerState::Dead { .. }), "{fault:?}: {machine:?}");
            assert!(hv.resume(&machine.record.name).await.is_err());
        }
    }
}

fn nothing_is_left(host: &TestHost, fault: &Fault) {
    assert_eq!((host.domains(), host.mounts()), (vec![], vec![]), "{fault:?}");
    assert_eq!(
        std::fs::read_dir(host.dir.path().join("machines")).unwrap().count(),
        0,
        "{fault:?}"
    );
    let ours = host.dir.path().to_str().unwrap().as_bytes().to_vec();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let arguments = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let qemu = arguments.starts_with(b"/usr/bin/qemu")
            && arguments.windows(ours.len()).any(|part| part == ours);
        assert!(!qemu, "{fault:?}: {} runs on", process.path().display());
    }
}
