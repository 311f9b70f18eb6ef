//! A real guest uses all of its memory, again and again. Its process stays within its limit. Where
//! the limit is too small, the kernel ends this process.

use std::time::{Duration, Instant};

use agentvm_core::names::DomainName;
use agentvm_hypervisor::{MachineApi, PowerState, Stop};

use crate::libvirt_host::TOKEN;
use crate::libvirt_host::neighbour::hardly_feels;
use crate::limits::LITTLE;
use crate::{Pair, TURN, cgroup, pid, running, virsh};

const ROUNDS: usize = 5;
const MIB: u64 = 1 << 20;
/// The memory of its 512 MiB that the guest dirties: the rest belongs to its kernel.
const DIRTY: u64 = 320 * MIB;
/// Says so when all of it was written once, and goes on.
const HOG: &str = "exec python3 -c \"
import mmap
size, block = 320 << 20, bytes(range(256)) * 4096
memory = mmap.mmap(-1, size)
first = True
while True:
    for at in range(0, size, len(block)):
        memory[at:at + len(block)] = block
    if first:
        print('dirty', flush=True)
    first, block = False, block[1:] + block[:1]
\"";
const WORK: &str = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done";

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_uses_all_of_its_memory_uses_no_more_than_its_own() {
    let _turn = TURN.lock().await;
    let mut pair = Pair::new("memory", LITTLE).await;
    let Pair { hv, limited, free, bad, good, .. } = &mut pair;
    let (name, neighbour) = (&limited.record.name, pid(&free.record.name));
    let before = used(name);
    let hog = bad.begin(TOKEN, HOG).await;
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("dirty") {
        assert_eq!(bad.hear(&hog, &mut said).await, None, "{}", String::from_utf8_lossy(&said));
    }
    let (after, limit) = (used(name), limit(name));
    println!(
        "measured: {} MiB before, {} MiB when all is dirty, {} MiB allowed",
        before / MIB,
        after / MIB,
        limit / MIB
    );
    assert!(after > before + DIRTY / 2, "the control: {before} and {after}");
    assert!(after < limit && limit < 3 << 30, "{after} of {limit}");
    let takes = async || {
        let began = Instant::now();
        assert_eq!(good.sh(TOKEN, WORK).await.0, Some(0));
        began.elapsed()
    };
    hardly_feels("a guest that uses all of its memory", hv, name, ROUNDS, takes).await;
    assert!(used(name) < limit);
    bad.stop(&hog).await;

    too_small(&mut pair).await;
    assert_eq!(pid(&pair.free.record.name), neighbour, "the neighbour is the process that it was");
    pair.end().await;
}

/// The kernel ends the process that exceeds its own limit, and no other process.
async fn too_small(Pair { hv, host, key, good, .. }: &mut Pair) {
    let spec = host.machine(key, 2, "nonce-2");
    let name = &spec.record.name;
    let mut guest = running(hv, &spec).await;
    let small = (used(name) + DIRTY / 4) >> 10;
    virsh(&["memtune", name.as_str(), "--live", "--hard-limit", &small.to_string()]);
    guest.begin(TOKEN, HOG).await;
    let gone = |state: &PowerState| matches!(state, PowerState::Absent | PowerState::Dead { .. });
    let state = hv.wait_for(name, Duration::from_mins(1), gone).await.unwrap();
    println!("measured: with {} MiB it is {state:?}", small >> 10);
    assert_eq!(good.sh(TOKEN, "echo well").await, (Some(0), "well".to_owned()));
    hv.destroy(name, Stop::Force).await.unwrap();
}

/// The memory that counts as the machine's.
fn used(name: &DomainName) -> u64 {
    cgroup(name, &["memory.usage_in_bytes", "memory.current"]).trim().parse().unwrap()
}

/// Without a limit the value is larger than any number.
fn limit(name: &DomainName) -> u64 {
    cgroup(name, &["memory.limit_in_bytes", "memory.max"]).trim().parse().unwrap_or(u64::MAX)
}
