//! What a machine feels of another one that misbehaves: how long something takes alone, and beside it.

use std::time::Duration;

use agentvm_core::names::DomainName;
use agentvm_hypervisor::MachineApi;
use agentvm_hypervisor::libvirt::Libvirt;

/// Whoever else uses the host can only make the difference larger: one of a few tries has to do.
const TRIES: usize = 5;
/// What a run may take longer.
const MOST: f64 = 1.25;

/// Panics where it takes more than a quarter longer beside the bad one. That goes on with what it was told; paused, it isn't there. By turns,
/// as often with it as without: what the host does besides hits both.
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
