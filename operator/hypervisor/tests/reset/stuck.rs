//! A QEMU that does not answer while its machine is reset is ended all the same, and in time.

use std::time::{Duration, Instant};

use agentvm_core::names::GoldenKey;
use agentvm_hypervisor::libvirt::{Libvirt, LibvirtConfig};
use agentvm_hypervisor::{HvError, MachineApi, Mark, PowerState, ShareApi, Stop};
use agentvm_testing::holds_within_async;

use crate::libvirt_host::TestHost;
use crate::memory::pid;

fn freeze(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_that_hangs_does_not_keep_its_machine_alive() {
    let host = TestHost::new();
    let hv = host.connect().await;
    let key = GoldenKey::derive(&["stuck"]);
    host.golden(&hv, &key).await;
    let spec = host.machine(&key, 0, "nonce-1");
    let name = &spec.record.name;
    hv.create(&spec).await.unwrap();
    hv.park(name, "evidence").await.unwrap();
    hv.put_input(name, vec![]).await.unwrap();
    assert_eq!(
        hv.list().await.unwrap()[0].mark,
        Mark::None,
        "a share with input isn't that of a parked machine"
    );
    let elsewhere = TestHost::new();
    let neighbour = elsewhere.connect().await;
    freeze(pid(name));
    let (resetting, next) = (hv.clone(), host.machine(&key, 0, "nonce-2"));
    let reset = tokio::spawn(async move { resetting.reset(&next).await });
    let marked = host.dir.path().join("machines").join(name.as_str()).join("resetting");
    let began = holds_within_async(Duration::from_secs(10), async || marked.exists()).await;
    assert!(began && !reset.is_finished());
    let began = Instant::now();
    let (ended, others) = tokio::join!(hv.destroy(name, Stop::Force), neighbour.list());
    ended.unwrap();
    assert_eq!(others.expect("another installation doesn't wait for it"), vec![]);
    println!("measured: a frozen machine ended in {:?}", began.elapsed());
    let ended = reset.await.unwrap().unwrap_err();
    assert!(ended.is_refusal() || matches!(ended, HvError::Io { .. }), "{ended:?}");
    assert_eq!((host.domains(), host.mounts()), (vec![], vec![]));
    hv.release().await;
}

/// The number of threads for claims.
const CALLS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn qemus_that_do_not_answer_cost_their_own_machines_and_no_other_claim() {
    let host = TestHost::new();
    let short = Duration::from_secs(5);
    let config = LibvirtConfig { monitor_timeout: short, ..host.config() };
    let hv = Libvirt::connect(config).await.unwrap();
    let key = GoldenKey::derive(&["silent"]);
    host.golden(&hv, &key).await;
    let specs = [0, 1, 2].map(|slot| host.machine(&key, slot, &format!("nonce-{slot}")));
    for spec in &specs {
        hv.create(spec).await.unwrap();
    }
    let [one, two, third] = specs.map(|spec| spec.record.name);
    let mut ends = Vec::new();
    for name in [&one, &two] {
        hv.resume(name).await.unwrap();
        freeze(pid(name));
        // The run is at its end, and its machine is paused, again and again.
        for _ in 0..CALLS {
            let (hv, name) = (hv.clone(), name.clone());
            ends.push(tokio::spawn(async move { hv.pause(&name).await }));
        }
    }
    let refused = async || ends.iter().filter(|end| end.is_finished()).count() == ends.len() - 2;
    assert!(
        holds_within_async(short, refused).await,
        "of each silent QEMU, one call waits, and all others are refused"
    );
    hv.resume(&third).await.expect("a claim of another machine goes on");
    hv.pause(&third).await.unwrap();
    assert_eq!(ends.iter().filter(|end| !end.is_finished()).count(), 2, "meanwhile they wait");
    for end in ends {
        end.await.unwrap().unwrap_err();
    }
    for name in [&one, &two] {
        // libvirt notices a moment later that the process is gone.
        let dead = |state: &PowerState| matches!(state, PowerState::Dead { .. });
        hv.wait_for(name, Duration::from_secs(20), dead).await.expect("it was killed");
    }
    for name in [&one, &two, &third] {
        hv.destroy(name, Stop::Force).await.unwrap();
    }
    assert_eq!((host.domains(), host.mounts()), (vec![], vec![]));
    hv.release().await;
}
