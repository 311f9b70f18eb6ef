//! Real machines on a real libvirt: capture, machines side by side, restarts and crashes. Nothing
//! is left behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says by panicking what is wrong"
)]

mod libvirt_host;
#[path = "libvirt_host/proxy.rs"]
mod proxy;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use agentvm_core::names::{DomainName, GoldenKey};
use agentvm_hypervisor::libvirt::{Libvirt, LibvirtConfig};
use agentvm_hypervisor::{CaptureStep, HookAction, Step, StepHook};
use agentvm_hypervisor::{
    CollectSpec, GoldenApi, HostApi, HvError, InputFile, MachineApi, MachineSpec, PowerState,
    ShareApi, Stop,
};
use agentvm_testing::holds_within_async;
use libvirt_host::guest::Guest;
use libvirt_host::{TOKEN, TestHost, took};
use proxy::Proxy;
use tokio::task::JoinSet;

async fn clone_of(hv: &Libvirt, spec: &MachineSpec) -> Guest {
    let creating = Instant::now();
    hv.create(spec).await.unwrap();
    took("create a clone", creating);
    assert_eq!(hv.state(&spec.record.name).await.unwrap(), PowerState::Paused);
    let resuming = Instant::now();
    hv.resume(&spec.record.name).await.unwrap();
    took("resume", resuming);
    let guest = Guest::open(hv, &spec.record.name, TOKEN).await;
    took("resume to agent answer", resuming);
    guest
}

fn fingerprint(folder: &Path) -> Vec<(String, u64, u32, i64, u64)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let stat = entry.metadata().unwrap();
            (
                entry.file_name().into_string().unwrap(),
                stat.len(),
                stat.mode(),
                stat.mtime_nsec(),
                stat.blocks(),
            )
        })
        .collect();
    files.sort();
    files
}

/// For the QEMU of a machine: KiB of its private view of the golden memory that others share, KiB
/// of its own, and the proportional set size of the whole process.
fn golden_mapping(machine: &DomainName, memory: &Path) -> (u64, u64, u64) {
    let pid = std::fs::read_to_string(format!("/run/libvirt/qemu/{machine}.pid")).unwrap();
    let smaps = std::fs::read_to_string(format!("/proc/{}/smaps", pid.trim())).unwrap();
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", pid.trim())).unwrap();
    let mut ours = false;
    let (mut shared, mut private) = (0, 0);
    for line in smaps.lines() {
        let mut fields = line.split_whitespace();
        let (name, value) = (fields.next().unwrap(), fields.next());
        let kib = || value.unwrap().parse::<u64>().unwrap();
        match name {
            _ if !name.ends_with(':') => ours = line.ends_with(memory.to_str().unwrap()),
            "Shared_Clean:" if ours => shared += kib(),
            "Private_Dirty:" | "Anonymous:" if ours => private = kib().max(private),
            _ => {}
        }
    }
    let pss = rollup
        .lines()
        .find_map(|l| l.strip_prefix("Pss:"))
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    (shared, private, pss)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_golden_and_its_clones() {
    let host = TestHost::new();
    let hv = host.connect().await;
    println!("facts: {:?}", hv.facts().await.unwrap());
    let key = GoldenKey::derive(&["clones"]);
    let captured = host.golden(&hv, &key).await;
    assert_eq!(hv.goldens().await.unwrap(), [captured]);
    assert_eq!((host.domains(), host.mounts()), (vec![], vec![]), "the template is gone");
    let files = host.dir.path().join("golden").join(key.as_str());
    let before = fingerprint(&files);
    assert!(
        before
            .iter()
            .filter(
                |f| f.0 != "rootfs.raw" && !["golden.json", "recipe.json"].contains(&f.0.as_str())
            )
            .all(|f| f.2 & 0o777 == 0o444)
    );

    let (one, two) = (host.machine(&key, 0, "nonce-1"), host.machine(&key, 1, "nonce-2"));
    let (mut first, mut second) = (clone_of(&hv, &one).await, clone_of(&hv, &two).await);
    clones_are_alone(&mut first, &mut second).await;
    memory_is_shared(&one.record.name, &two.record.name, &files.join("memory"));
    creating_twice(&host, &hv, &key, &one).await;
    input_and_output(&host, &hv, &one, &mut first).await;
    pause_and_resume(&hv, &one.record.name, &mut first).await;
    a_restart_finds_them(&host, &[&one, &two]).await;
    drop((first, second));
    a_machine_that_dies_is_seen_and_removed(&hv, &host.machine(&key, 2, "nonce-3")).await;

    let stopping = Instant::now();
    hv.destroy(&one.record.name, Stop::Graceful).await.unwrap();
    took("graceful destroy", stopping);
    let loops = std::process::Command::new("losetup")
        .args(["-l", "-n", "-O", "BACK-FILE"])
        .output()
        .unwrap();
    let loops = String::from_utf8_lossy(&loops.stdout).into_owned();
    assert!(
        !loops.contains(one.record.name.as_str()),
        "the running neighbour keeps nothing of it: {loops}"
    );
    assert!(loops.contains(two.record.name.as_str()));
    let stopping = Instant::now();
    hv.destroy(&two.record.name, Stop::Force).await.unwrap();
    took("destroy by force", stopping);
    hv.destroy(&two.record.name, Stop::Force).await.unwrap();
    assert_eq!(hv.state(&two.record.name).await.unwrap(), PowerState::Absent);
    assert_eq!((host.domains(), host.mounts()), (vec![], vec![]));
    assert_eq!(std::fs::read_dir(host.dir.path().join("machines")).unwrap().count(), 0);
    assert_eq!(fingerprint(&files), before, "machines leave their golden as it was");
    hv.remove_golden(&key).await.unwrap();
    assert_eq!(hv.goldens().await.unwrap(), []);
    assert!(matches!(hv.create(&one).await, Err(HvError::NoSuchGolden(_))));
    hv.release().await;
}

async fn clones_are_alone(first: &mut Guest, second: &mut Guest) {
    let write = "echo one > /etc/mine; mkdir -p /dev/shm; cat /etc/golden";
    assert_eq!(first.sh(TOKEN, write).await, (Some(0), "setup".to_owned()));
    assert_eq!(
        second.sh(TOKEN, "cat /etc/golden; ls /etc/mine").await.0.map(|code| code != 0),
        Some(true)
    );
    assert_eq!(first.sh(TOKEN, "cat /etc/mine").await, (Some(0), "one".to_owned()));
}

fn memory_is_shared(one: &DomainName, two: &DomainName, memory: &Path) {
    for machine in [one, two] {
        let (shared, private, pss) = golden_mapping(machine, memory);
        println!(
            "measured: {machine}: golden pages shared {shared} KiB, own {private} KiB, PSS of QEMU \
                {pss} KiB"
        );
        assert!(shared > 8 * 1024, "two clones share what neither has written: {shared} KiB");
    }
}

async fn creating_twice(host: &TestHost, hv: &Libvirt, key: &GoldenKey, one: &MachineSpec) {
    hv.create(one).await.unwrap();
    assert_eq!(
        hv.state(&one.record.name).await.unwrap(),
        PowerState::Running,
        "the second create was a no-op"
    );
    let other = host.machine(key, one.record.slot, "another incarnation");
    assert!(matches!(hv.create(&other).await, Err(HvError::AlreadyExists(_))));
    assert_eq!(host.domains().len(), 2);
}

async fn input_and_output(host: &TestHost, hv: &Libvirt, machine: &MachineSpec, guest: &mut Guest) {
    let script = InputFile {
        path: "bin/run.sh".to_owned(),
        mode: 0o755,
        content: b"ran as input\n".to_vec(),
    };
    hv.put_input(&machine.record.name, vec![script]).await.unwrap();
    let command = "cat /workspace/input/bin/run.sh; stat -c %a /workspace/input/bin/run.sh; \
        touch /workspace/input/x 2>/dev/null && echo WRITABLE; cd /workspace/output && mkdir d && \
        echo text > d/report \
        && cp /bin/true d/program && chmod 755 d/program && ln -s /etc/passwd link && mkfifo pipe; \
        head -c 100000000 /dev/zero > big 2>/dev/null || echo full; rm -f big; sync";
    let (_, said) = guest.sh(TOKEN, command).await;
    assert_eq!(said.lines().collect::<Vec<_>>(), ["ran as input", "755", "full"]);
    let wanted = CollectSpec {
        include: vec!["**".into()],
        max_bytes: 1 << 20,
        max_files: 10,
        max_entries: 100,
    };
    let into = host.dir.path().join("collected");
    let found = hv.collect(&machine.record.name, &wanted, &into).await.unwrap();
    let files: Vec<_> = found.files.iter().map(|f| (f.path.as_str(), f.executable)).collect();
    assert_eq!(files, [("d/program", true), ("d/report", false)]);
    assert_eq!(std::fs::read_to_string(into.join("d/report")).unwrap(), "text\n");
    let mode =
        |path: &str| std::fs::metadata(into.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode("d/program"), mode("d/report")),
        (0o700, 0o600),
        "a program stays one, for us alone"
    );
    assert!(found.skipped_total >= 2, "{found:?}");
}

async fn pause_and_resume(hv: &Libvirt, name: &DomainName, guest: &mut Guest) {
    hv.pause(name).await.unwrap();
    hv.pause(name).await.unwrap();
    assert_eq!(hv.state(name).await.unwrap(), PowerState::Paused);
    hv.resume(name).await.unwrap();
    hv.resume(name).await.unwrap();
    hv.wait_for(name, Duration::from_secs(30), |s| *s == PowerState::Running).await.unwrap();
    assert_eq!(guest.sh(TOKEN, "echo still here").await.1, "still here");
}

async fn a_machine_that_dies_is_seen_and_removed(hv: &Libvirt, spec: &MachineSpec) {
    let name = &spec.record.name;
    hv.create(spec).await.unwrap();
    let pid = std::fs::read_to_string(format!("/run/libvirt/qemu/{name}.pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let dead = |state: &PowerState| matches!(state, PowerState::Dead { .. });
    hv.wait_for(name, Duration::from_secs(30), dead).await.unwrap();
    assert!(hv.list().await.unwrap().iter().any(|m| m.record == spec.record && dead(&m.state)));
    assert!(matches!(hv.resume(name).await, Err(HvError::Refused { .. })));
    hv.destroy(name, Stop::Graceful).await.unwrap();
    assert_eq!(hv.state(name).await.unwrap(), PowerState::Absent);
}

/// Another process of this installation sees its machines and sweeps none away. Another
/// installation sees none of them.
async fn a_restart_finds_them(host: &TestHost, machines: &[&MachineSpec]) {
    let again = host.connect().await;
    assert_eq!(again.sweep().await.unwrap(), Vec::<String>::new());
    let listed: Vec<_> =
        again.list().await.unwrap().into_iter().map(|m| (m.record, m.state)).collect();
    let expected: Vec<_> =
        machines.iter().map(|m| (m.record.clone(), PowerState::Running)).collect();
    assert_eq!(listed, expected);
    let stranger = TestHost::new();
    assert_eq!(stranger.connect().await.list().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_step_of_capture_is_swept() {
    let host = TestHost::new();
    let key = GoldenKey::derive(&["crashes"]);
    let spec = host.template(&key);
    for step in CaptureStep::ALL {
        let on_step =
            StepHook::new(
                move |_, at| {
                    if at == Step::Capture(step) { HookAction::Die } else { HookAction::Go }
                },
            );
        let crashing = Libvirt::connect(LibvirtConfig { on_step, ..host.config() }).await.unwrap();
        crashing.boot_template(&spec).await.unwrap();
        assert!(matches!(
            crashing.capture(&spec.record.name, "").await,
            Err(HvError::Killed { .. })
        ));
        drop(crashing);
        let hv = host.connect().await;
        assert_eq!(hv.goldens().await.unwrap(), [], "{step:?}: nobody sees half a golden");
        let swept = hv.sweep().await.unwrap();
        assert!(!swept.is_empty(), "{step:?}");
        assert_eq!((host.domains(), host.mounts()), (vec![], vec![]), "{step:?}");
        for folder in ["machines", "golden"] {
            assert_eq!(
                std::fs::read_dir(host.dir.path().join(folder)).unwrap().count(),
                0,
                "{step:?}: {folder}"
            );
        }
        assert_eq!(
            hv.sweep().await.unwrap(),
            Vec::<String>::new(),
            "{step:?}: a second sweep finds nothing"
        );
        hv.release().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_comes_back() {
    let host = TestHost::new();
    let proxy = Proxy::start(&host.dir.path().join("proxy.sock"));
    let uri = format!("qemu+unix:///system?socket={}", proxy.socket.display());
    let hv = Libvirt::connect(LibvirtConfig { uri, ..host.config() }).await.unwrap();
    assert_eq!(hv.list().await.unwrap(), []);
    proxy.cut();
    assert!(hv.health().await.is_err_and(|e| e.is_transient()), "nobody listens");
    proxy.listen();
    let back = holds_within_async(Duration::from_secs(20), async || match hv.health().await {
        Ok(()) => true,
        Err(error) => {
            assert!(error.is_transient(), "{error}");
            false
        }
    })
    .await;
    assert!(back, "it never answers again");
    proxy.cut();
    hv.release().await;
}

/// Calls at the same time. libvirt has eight threads for them, each with a connection.
const CALLS: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn a_libvirtd_that_hangs_is_unknown_then_unavailable_then_back() {
    let host = TestHost::new();
    let proxy = Proxy::start(&host.dir.path().join("proxy.sock"));
    let uri = format!("qemu+unix:///system?socket={}", proxy.socket.display());
    let call_timeout = Duration::from_millis(300);
    let hv = Libvirt::connect(LibvirtConfig { uri, call_timeout, ..host.config() }).await.unwrap();
    // All threads for claims need a connection that can hang. Making one may take longer than the
    // deadline.
    let deadline = Instant::now() + Duration::from_secs(20);
    // More calls than there are threads for claims, so that none of them is left out.
    let calls = async || {
        let mut all = JoinSet::new();
        for _ in 0..CALLS {
            let hv = hv.clone();
            all.spawn(async move { hv.list().await });
        }
        all.join_all().await
    };
    loop {
        let answers = calls().await;
        if answers.iter().all(Result::is_ok) {
            break;
        }
        assert!(Instant::now() < deadline, "{answers:?}");
    }
    proxy.hang();
    let hanging = Instant::now();
    for answer in calls().await {
        assert!(matches!(answer, Err(HvError::OutcomeUnknown { .. })), "{answer:?}");
    }
    // Far less than the keep-alive takes.
    assert!(hanging.elapsed() < Duration::from_secs(10), "a deadline is a deadline");
    // No answer will come; only the keep-alive can tell the threads that wait for one.
    let deadline = hanging + Duration::from_secs(40);
    while let Err(error) = hv.list().await {
        assert!(error.is_transient() && Instant::now() < deadline, "{error}");
    }
    took("back after a hang", hanging);
    proxy.cut();
    hv.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_is_given_up_leaves_nothing() {
    let host = TestHost::new();
    let hv = host.connect().await;
    let spec = host.template(&GoldenKey::derive(&["given up"]));
    hv.boot_template(&spec).await.unwrap();
    hv.destroy(&spec.record.name, Stop::Force).await.unwrap();
    assert_eq!((host.domains(), host.mounts()), (vec![], vec![]));
    assert_eq!(hv.sweep().await.unwrap(), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(host.dir.path().join("golden")).unwrap().count(), 0);
    hv.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_says_so_and_leaves_nothing() {
    let host = TestHost::new();
    let hv = host.connect().await;
    let key = GoldenKey::derive(&["broken"]);
    let mut spec = host.template(&key);
    spec.image = host.dir.path().join("nowhere");
    assert!(matches!(hv.boot_template(&spec).await, Err(HvError::BadImage { .. })));
    let mut spec = host.template(&key);
    spec.resources.memory_mib = 1 << 30;
    let error = hv.boot_template(&spec).await.unwrap_err();
    assert!(matches!(error, HvError::NoCapacity { .. }), "{error}");
    let name = spec.record.name.clone();
    assert!(matches!(hv.capture(&name, "").await, Err(HvError::NoSuchMachine(_))));
    assert!(matches!(hv.resume(&name).await, Err(HvError::NoSuchMachine(_))));
    assert!(matches!(hv.connect(&name).await.err(), Some(HvError::NoSuchMachine(_))));
    assert!(matches!(hv.create(&host.machine(&key, 0, "n")).await, Err(HvError::NoSuchGolden(_))));
    assert_eq!((host.domains(), host.mounts()), (vec![], vec![]));
    assert_eq!(std::fs::read_dir(host.dir.path().join("machines")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(host.dir.path().join("golden")).unwrap().count(), 0);
    hv.release().await;
}

/// The disk of the host is full: the guest gets the error itself, and its machine is not paused.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_host_is_an_error_in_the_guest_and_no_pause() {
    let host = TestHost::new();
    // Overlays and shares are on a small file system of their own, goldens are not.
    let machines = host.dir.path().join("machines");
    std::fs::create_dir(&machines).unwrap();
    let (size, flags) = (c"size=160m,mode=0711", rustix::mount::MountFlags::empty());
    rustix::mount::mount("tmpfs", &machines, "tmpfs", flags, size).unwrap();
    let hv = host.connect().await;
    let key = GoldenKey::derive(&["full disk"]);
    host.golden(&hv, &key).await;
    let spec = host.machine(&key, 0, "nonce-1");
    let mut guest = clone_of(&hv, &spec).await;
    let fill = "dd if=/dev/zero of=/full bs=1M count=400 oflag=direct 2>&1; echo still alive";
    let (code, said) = guest.sh(TOKEN, fill).await;
    println!("the guest says: {said}");
    assert_eq!(code, Some(0));
    assert!(said.contains("rror") && said.ends_with("still alive"), "{said}");
    assert_eq!(hv.state(&spec.record.name).await.unwrap(), PowerState::Running);
    let left = rustix::fs::statvfs(&machines).unwrap();
    let left = left.f_bavail * left.f_frsize;
    assert!(left < 4 << 20, "the disk is full: {left} bytes are left");
    drop(guest);
    hv.destroy(&spec.record.name, Stop::Force).await.unwrap();
    hv.remove_golden(&key).await.unwrap();
    // This takes the mount of the machines' folder away, too.
    hv.release().await;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(machines.to_str().unwrap()), "{mounts}");
}
