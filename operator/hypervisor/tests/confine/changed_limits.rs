//! Limits change while a real machine lives, idle or at work. The kernel and QEMU report them, and
//! they hold.

use std::time::{Duration, Instant};

use agentvm_core::names::{DomainName, GoldenKey};
use agentvm_hypervisor::libvirt::Libvirt;
use agentvm_hypervisor::{HvError, MachineApi, MachineLimits, MachineSpec, Stop, Tier};

use crate::libvirt_host::guest::Guest;
use crate::libvirt_host::{TOKEN, TestHost};
use crate::limits::used;
use crate::{TURN, cgroup, virsh};

const NONE: MachineLimits =
    MachineLimits { cpu_quota_percent: None, disk_bytes_per_second: None, processes: 0 };
const FIFTH: MachineLimits = MachineLimits { cpu_quota_percent: Some(20), ..NONE };
const TRIES: usize = 5;
const SLOW: MachineLimits = MachineLimits { disk_bytes_per_second: Some(4 << 20), ..NONE };
const SPIN: &str = "while :; do :; done";

#[tokio::test(flavor = "multi_thread")]
async fn limits_change_while_a_machine_lives() {
    let _turn = TURN.lock().await;
    let host = TestHost::new();
    let hv = host.connect().await;
    let key = GoldenKey::derive(&["relimit"]);
    host.golden(&hv, &key).await;
    let spec = MachineSpec { tier: Tier::InPlace, ..host.machine(&key, 0, "nonce-0") };
    let name = &spec.record.name;
    hv.create(&spec).await.unwrap();
    paused(&hv, name).await;
    hv.resume(name).await.unwrap();
    let mut guest = Guest::open(&hv, name, TOKEN).await;
    disk(&hv, name, &mut guest).await;
    guest.begin(TOKEN, SPIN).await;
    processor(&hv, name).await;
    reset(&hv, &host, &key, name).await;
    hv.destroy(name, Stop::Force).await.unwrap();
    assert!(matches!(hv.update_limits(name, &FIFTH).await, Err(HvError::NoSuchMachine(_))));
    hv.release().await;
}

async fn relimit(hv: &Libvirt, name: &DomainName, limits: &MachineLimits) -> Option<String> {
    let began = Instant::now();
    let rest = hv.update_limits(name, limits).await.unwrap();
    println!("measured: limits changed in {:?}", began.elapsed());
    rest
}

/// One that stands still is held to them all the same.
async fn paused(hv: &Libvirt, name: &DomainName) {
    for (limits, quota) in [(FIFTH, 20_000), (NONE, -1)] {
        assert_eq!(relimit(hv, name, &limits).await, None);
        assert_eq!(quota_of(name), quota);
    }
    for (limits, rate) in [(SLOW, 4 << 20), (NONE, 0)] {
        relimit(hv, name, &limits).await;
        assert_eq!(rate_of(name), rate);
    }
}

/// Other load can only make it slower. So a disk that is too fast shows that the limit failed.
async fn disk(hv: &Libvirt, name: &DomainName, guest: &mut Guest) {
    let write =
        "dd if=/dev/zero of=/var/fill bs=512k count=32 conv=fsync oflag=direct 2>&1; rm /var/fill";
    let mut took = Vec::new();
    for limits in [SLOW, NONE] {
        let rest = relimit(hv, name, &limits).await;
        // The share keeps the rate that its process was started with.
        assert_eq!(rest.is_some(), limits == SLOW, "{rest:?}");
        let began = Instant::now();
        assert_eq!(guest.sh(TOKEN, write).await.0, Some(0));
        took.push(began.elapsed());
    }
    println!("measured: 16 MiB to the disk: {took:?} at 4 MiB/s, and without a limit again");
    assert!(took[0] > Duration::from_secs(3) && took[1] < took[0] / 2, "{took:?}");
}

/// Other processes may want the processors too, so the test checks an upper bound. Without a quota
/// the machine uses more in one of a few tries.
async fn processor(hv: &Libvirt, name: &DomainName) {
    assert_eq!(relimit(hv, name, &FIFTH).await, None);
    let held = percent(name).await;
    assert!(held < 27.0, "{held}");
    assert_eq!(relimit(hv, name, &NONE).await, None);
    let mut free = Vec::new();
    for _ in 0..TRIES {
        free.push(percent(name).await);
        println!(
            "measured: a machine that spins uses {held:.0} % with a quota of 20 %, and without \
                {free:.0?} %"
        );
        if free.last().is_some_and(|free| *free > held * 1.3) {
            return;
        }
    }
    panic!("the control: {held} and {free:?}");
}

/// The share of a processor that its process uses in two seconds.
async fn percent(name: &DomainName) -> f64 {
    let (began, before) = (Instant::now(), used(name));
    tokio::time::sleep(Duration::from_secs(2)).await;
    100.0 * used(name).saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64()
}

/// A reset keeps changed limits, and changes the limits that it can.
async fn reset(hv: &Libvirt, host: &TestHost, key: &GoldenKey, name: &DomainName) {
    let next =
        |limits| MachineSpec { limits, tier: Tier::InPlace, ..host.machine(key, 0, "nonce-1") };
    relimit(hv, name, &FIFTH).await;
    hv.reset(&next(FIFTH)).await.unwrap();
    assert_eq!(quota_of(name), 20_000);
    hv.reset(&next(NONE)).await.unwrap();
    assert_eq!((quota_of(name), rate_of(name)), (-1, 0));
    relimit(hv, name, &SLOW).await;
    let why = hv.reset(&next(SLOW)).await.unwrap_err();
    assert!(matches!(&why, HvError::NotResettable { why, .. } if why.contains("share")), "{why}");
}

/// The quota of all threads of QEMU together, in microseconds of a tenth of a second. -1 means
/// none.
fn quota_of(name: &DomainName) -> i64 {
    let said = cgroup(name, &["cpu.cfs_quota_us", "cpu.max"]);
    said.split_whitespace().next().unwrap().parse().unwrap_or(-1)
}

/// Bytes per second of its disk, as QEMU says.
fn rate_of(name: &DomainName) -> u64 {
    let said = virsh(&["blkdeviotune", name.as_str(), "vda"]);
    let line = said.lines().find_map(|line| line.trim().strip_prefix("total_bytes_sec")).unwrap();
    line.trim_start_matches([' ', ':']).parse().unwrap()
}
