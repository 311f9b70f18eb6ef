//! The effect of a misbehaving machine on another one: the time of a job alone, and beside it.

use std::time::Duration;

use agentvm_core::names::DomainName;
use agentvm_hypervisor::MachineApi;
use agentvm_hypervisor::libvirt::Libvirt;

/// Other load on the host can only make the difference larger: one of a few tries must succeed.
const TRIES: usize = 5;
/// The extra time that a run may take.
const MOST: f64 = 1.25;

/// Panics if the job takes more than a quarter longer beside the bad machine. The bad machine
/// continues its work; while it is paused, it has no effect. The turns alternate, so that other
/// load of the host hits both.
pub async fn hardly_feels(
    what: &str,
    hv: &Libvirt,
    bad: &DomainName,
    rounds: usize,
    mut takes: impl AsyncFnMut() -> Duration,
) {
    let mut slower = Vec::new();
    for _ in 0..TRIES {
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            hv.pause(bad).await.unwrap();
            alone.push(takes().await);
            hv.resume(bad).await.unwrap();
            beside.push(takes().await);
        }
        let [alone, beside] = [alone, beside].map(median);
        println!("measured: it takes {alone:?} alone and {beside:?} beside {what}");
        slower.push(beside.as_secs_f64() / alone.as_secs_f64());
        if slower.last().is_some_and(|times| *times < MOST) {
            return;
        }
    }
    panic!("it takes {slower:.2?} times as long beside {what}");
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}
