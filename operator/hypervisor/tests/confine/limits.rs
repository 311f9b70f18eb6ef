//! Limits of real machines: the load that they hold back, and the effect of a greedy machine on its
//! neighbour.

use std::time::{Duration, Instant};

use agentvm_core::names::DomainName;
use agentvm_guest_agent::protocol::Nonce;
use agentvm_hypervisor::{HvError, MachineApi, MachineLimits, MachineSpec, Tier};

use crate::libvirt_host::TOKEN;
use crate::libvirt_host::guest::Guest;
use crate::libvirt_host::neighbour::hardly_feels;
use crate::{Pair, TURN, pid};

const LIMITS: MachineLimits = MachineLimits {
    cpu_quota_percent: Some(50),
    disk_bytes_per_second: Some(4 << 20),
    processes: 0,
};
/// For the neighbour's test: a limit so small that it shows although others use the host as well.
pub const LITTLE: MachineLimits = MachineLimits { cpu_quota_percent: Some(20), ..LIMITS };
const ROUNDS: usize = 7;
/// Enough work that a start of a process doesn't count, on the disk and on the processor.
const WORK: &str = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/var/work \
    bs=64k count=32 conv=fsync 2>&1";
/// Everything at once, without an end.
const HOG: &str = "for n in 1 2 3 4; do (while :; do :; done) & done; \
    (while :; do dd if=/dev/zero of=/var/hog bs=1M count=16 conv=fsync; done) & \
    while :; do dd if=/dev/zero of=/workspace/output/hog bs=64k count=64; done";

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_takes_all_it_can_get_is_held_back_and_its_neighbour_hardly_feels_it() {
    let _turn = TURN.lock().await;
    let mut pair = Pair::new("limits", LIMITS).await;
    let Pair { host, hv, key, limited, bad, good, .. } = &mut pair;
    processes(bad).await;
    disk(bad, good).await;
    let hog = processor(bad, &limited.record.name).await;
    hv.update_limits(&limited.record.name, &LITTLE).await.unwrap();
    let takes = async || {
        let began = Instant::now();
        assert_eq!(good.sh(TOKEN, WORK).await.0, Some(0));
        began.elapsed()
    };
    hardly_feels("a machine that takes all it can get", hv, &limited.record.name, ROUNDS, takes)
        .await;
    bad.stop(&hog).await;
    // A reset keeps the limits of the process: a machine that needs another share limit gets a
    // fresh process.
    let next =
        |limits| MachineSpec { limits, tier: Tier::InPlace, ..host.machine(key, 0, "nonce-2") };
    hv.reset(&next(LIMITS)).await.unwrap();
    let other = hv.reset(&next(MachineLimits::default())).await.unwrap_err();
    assert!(
        matches!(&other, HvError::NotResettable { why, .. } if why.contains("share")),
        "{other}"
    );
    pair.end().await;
}

/// A run that starts many gets as many as it may have.
async fn processes(guest: &mut Guest) {
    let many = "n=0; while [ $n -lt 40 ]; do sleep 60 & n=$((n+1)); done; echo all";
    let nonce = guest.begin_with(TOKEN, many, 12).await;
    let mut said = Vec::new();
    let end = loop {
        if let Some(code) = guest.hear(&nonce, &mut said).await {
            break code;
        }
    };
    let said = String::from_utf8_lossy(&said);
    assert!(
        end != Some(0) && said.to_lowercase().contains("fork") && !said.contains("all"),
        "{end:?}: {said}"
    );
    let enough = "n=0; while [ $n -lt 40 ]; do sleep 0 & n=$((n+1)); done; wait; echo all";
    assert_eq!(
        guest.sh(TOKEN, enough).await,
        (Some(0), "all".to_owned()),
        "the control: as many, and no limit"
    );
}

/// Other load can only make it slower. So a disk that is too fast shows that the limit failed.
async fn disk(bad: &mut Guest, good: &mut Guest) {
    for (place, sync) in [("/var/fill", "conv=fsync oflag=direct"), ("/workspace/output/fill", "")]
    {
        let write = format!("dd if=/dev/zero of={place} bs=512k count=32 {sync} 2>&1; rm {place}");
        let mut took = Vec::new();
        for guest in [&mut *bad, &mut *good] {
            let began = Instant::now();
            assert_eq!(guest.sh(TOKEN, &write).await.0, Some(0));
            took.push(began.elapsed());
        }
        println!("measured: 16 MiB to {place}: {took:?} with 4 MiB/s and without a limit");
        assert!(took[0] > Duration::from_secs(3), "16 MiB at 4 MiB/s in {:?}", took[0]);
        assert!(took[1] < took[0] / 2, "the control: {took:?}");
    }
}

/// The processor time that its process used in three seconds. It may have half of them.
async fn processor(guest: &mut Guest, name: &DomainName) -> Nonce {
    let hog = guest.begin(TOKEN, HOG).await;
    let (began, before) = (Instant::now(), used(name));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let percent =
        100.0 * used(name).saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64();
    println!("measured: a machine that may have 50 % of a processor used {percent:.0} %");
    assert!((10.0..60.0).contains(&percent), "{percent}");
    hog
}

/// Processor time of all threads; the kernel counts hundredths of seconds.
pub fn used(name: &DomainName) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid(name))).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    Duration::from_millis(
        10 * fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>(),
    )
}
