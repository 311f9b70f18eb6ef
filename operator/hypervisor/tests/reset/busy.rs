//! Runs leave 9p and disk busy when they are stopped, again and again. These machines have no
//! network device.

use std::time::{Duration, Instant};

use agentvm_core::names::GoldenKey;
use agentvm_hypervisor::libvirt::Libvirt;
use agentvm_hypervisor::{HvError, MachineApi, ResetStep, Stop};

use crate::libvirt_host::guest::Guest;
use crate::libvirt_host::{TOKEN, TestHost};

const MACHINES: u32 = 2;
const RESETS: usize = 200;
/// The number of resets that may be refused: cleanly, so that the machine is thrown away.
const REFUSED_MAX: usize = 5;

/// Requests of each kind are in flight at any time, from several processes; it goes on for ever.
const BUSY: &str = "cd /workspace/output; \
    for n in 1 2; do (while :; do dd if=/dev/zero of=f$n bs=256k count=40 2>/dev/null; rm f$n; \
    done) & done; \
    (while :; do dd if=/dev/zero of=/var/tmp/d bs=64k count=200 oflag=direct 2>/dev/null; done) & \
    while [ ! -s f1 ]; do :; done; echo busy; wait";

#[derive(Default)]
struct Count {
    proven: Vec<Duration>,
    second_rounds: usize,
    refused: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_busy_machines_are_proven_or_thrown_away() {
    let host = TestHost::new();
    let hv = host.connect().await;
    let key = GoldenKey::derive(&["busy"]);
    host.golden(&hv, &key).await;
    let began = Instant::now();
    let share = RESETS / MACHINES as usize;
    let mut working = Vec::new();
    for slot in 0..MACHINES {
        working.push(reset_again_and_again(&host, &hv, &key, slot, share));
    }
    let mut all = Count::default();
    for count in futures(working).await {
        all.proven.extend(count.proven);
        all.refused.extend(count.refused);
        all.second_rounds += count.second_rounds;
    }
    all.proven.sort();
    let (median, worst) = (all.proven[all.proven.len() / 2], all.proven[all.proven.len() - 1]);
    println!(
        "measured: {} busy resets in {:?}: median {median:?}, worst {worst:?}, {} in the second \
            round, refused: {:?}",
        all.proven.len(),
        began.elapsed(),
        all.second_rounds,
        all.refused
    );
    assert!(all.refused.len() <= REFUSED_MAX, "{:?}", all.refused);
    assert_eq!((host.domains(), host.mounts()), (vec![], vec![]));
    hv.release().await;
}

/// All at the same time, on this task.
async fn futures<F: Future<Output = Count>>(all: Vec<F>) -> Vec<Count> {
    let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        all.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(count) => {
                done.push(count);
                false
            }
            std::task::Poll::Pending => true,
        });
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}

async fn reset_again_and_again(
    host: &TestHost,
    hv: &Libvirt,
    key: &GoldenKey,
    slot: u32,
    times: usize,
) -> Count {
    let mut count = Count::default();
    let machine = |n: usize| host.machine(key, slot, &format!("nonce-{slot}-{n}"));
    let first = machine(0);
    let name = &first.record.name;
    let mut fresh = true;
    for n in 0..times {
        if fresh {
            hv.create(&machine(n)).await.unwrap();
            fresh = false;
        }
        hv.resume(name).await.unwrap();
        let mut guest = Guest::open(hv, name, TOKEN).await;
        let run = guest.begin(TOKEN, BUSY).await;
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains("busy") {
            assert_eq!(
                guest.hear(&run, &mut said).await,
                None,
                "{}",
                String::from_utf8_lossy(&said)
            );
        }
        match hv.reset(&machine(n + 1)).await {
            Ok(proof) => {
                assert_eq!(proof.failure(), None);
                count.second_rounds += usize::from(
                    proof.steps.iter().filter(|(step, _)| *step == ResetStep::Load).count() > 1,
                );
                count.proven.push(proof.took());
            }
            Err(error) => {
                assert!(
                    matches!(error, HvError::NotProven { .. }) || error.is_refusal(),
                    "{error:?}"
                );
                count.refused.push(error.to_string());
                hv.destroy(name, Stop::Force).await.unwrap();
                fresh = true;
            }
        }
    }
    if !fresh {
        the_disk_is_sound(
            &host.dir.path().join("machines").join(name.as_str()).join("overlay.qcow2"),
        );
    }
    hv.destroy(name, Stop::Force).await.unwrap();
    count
}

/// However often clusters were given back, none is used twice. Some may be lost; that costs space
/// until the machine goes.
fn the_disk_is_sound(overlay: &std::path::Path) {
    let checked = std::process::Command::new("qemu-img")
        .args(["check", "-U", "-q"])
        .arg(overlay)
        .status()
        .unwrap();
    assert!(matches!(checked.code(), Some(0 | 3)), "{checked}");
}
