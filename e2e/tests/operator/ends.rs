//! An orderly end during runs, and the default pool that a host can begin with.

use agentvm_crds::{AgentRun, GoldenSnapshot};
use agentvm_e2e::{Host, leftovers};
use serde_json::json;

const DEFAULT_POOL: [&str; 9] = [
    "--default-pool",
    "--network-mode",
    "isolated",
    "--default-profile",
    "light",
    "--pool-min-size",
    "2",
    "--pool-max-size",
    "2",
];

#[tokio::test(flavor = "multi_thread")]
async fn runs_under_way_are_evicted_and_the_rest_is_found_again() {
    let _turn = crate::turn().await;
    let host = Host::start(&DEFAULT_POOL).await.unwrap();
    host.warm().await.unwrap();
    let captured = captured(&host).await;
    let mut runs = Vec::new();
    for _ in 0..2 {
        let script = "trap '' TERM; echo started; echo x > /workspace/output/started; while :; do \
            sleep 1; done";
        runs.push(host.submit(json!({"command": ["bash", "-c", script]})).await.unwrap());
    }
    // A third run waits, because there are two machines. It was never dispatched, so it is not
    // lost.
    for run in &runs {
        host.until_in_output(run, "started").await.unwrap();
    }
    let waiting = host.submit(json!({"command": ["echo", "it was my turn"]})).await.unwrap();
    let accepted =
        |run: &AgentRun| run.status.as_ref().is_some_and(|status| !status.conditions.is_empty());
    host.until(&waiting, "seen", accepted).await.unwrap();

    let (dir, took) = host.stop().await.unwrap();
    println!("ended in {took:?} with two runs under way");
    assert!(leftovers(dir.path()).is_empty());

    // The objects that the flag made are there, with or without the flag.
    let host = Host::start_on(dir, &DEFAULT_POOL[1..]).await.unwrap();
    for name in &runs {
        let run = host.ended(name).await.unwrap();
        assert_eq!((run.reason(), run.stdout()), ("Evicted", "started\n"), "{run}");
        assert_eq!(run.status().attempts.len(), 1, "{run}");
    }
    let run = host.ended(&waiting).await.unwrap();
    assert_eq!((run.reason(), run.stdout()), ("Completed", "it was my turn\n"), "{run}");
    assert_eq!(self::captured(&host).await, captured, "the golden is not captured twice");
    host.stop().await.unwrap();
}

/// The time when the golden was captured.
async fn captured(host: &Host) -> Option<String> {
    let status = host.api::<GoldenSnapshot>().get("default").await.unwrap().status.unwrap();
    status.nodes[0].captured_time.clone()
}
