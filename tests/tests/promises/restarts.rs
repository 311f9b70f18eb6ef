//! A killed operator loses nothing. A lost machine costs an attempt. An orderly stop stops in
//! order.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use agentvm_core::names::DomainName;
use agentvm_crds::{AgentRun, AgentVMPool};
use agentvm_hypervisor::MachineApi;
use agentvm_hypervisor::fake::{Fault, Op};
use agentvm_testing::wait_until_async;
use agentvm_tests::{Outside, World, reason};
use agentvm_types::Nonce;
use serde_json::json;

const KILLS: u32 = 20;
const LINES: u32 = 300;

fn operator(world: &World) -> Outside {
    Outside::start(Path::new(env!("CARGO_BIN_EXE_fake-operator")), world).unwrap()
}

/// The nonces of all machines.
async fn nonces(world: &World) -> HashSet<Nonce> {
    world.fake.list().await.unwrap().into_iter().map(|machine| machine.record.nonce).collect()
}

/// Numbers without a pattern. A seed always gives equal numbers (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Notes that it was executed, writes lines for one to two seconds, and exits with a code of its
/// own.
async fn talkative(world: &World, n: u32) {
    let marks = world.outside(&format!("marks-{n}"));
    let script = format!(
        "echo mark >> {}; for i in $(seq {LINES}); do echo run {n} line $i; echo $i >&2; sleep \
            0.003; done; exit {}",
        marks.display(),
        n % 5
    );
    world.script(&format!("run-{n}"), &script, json!({})).await;
}

async fn assert_whole(world: &World, n: u32) {
    let run = world.finished(&format!("run-{n}")).await;
    let uid = run.metadata.uid.clone().unwrap();
    let status = run.status.as_ref().unwrap();
    assert_eq!(
        status.exit_code,
        Some(i32::try_from(n % 5).unwrap()),
        "run-{n}: {}",
        reason(&run, "Succeeded")
    );
    let marks = std::fs::read_to_string(world.outside(&format!("marks-{n}"))).unwrap();
    assert_eq!((marks.as_str(), status.attempts.len()), ("mark\n", 1), "run-{n} was executed once");
    let (mut out, mut err) = (String::new(), String::new());
    for line in 1..=LINES {
        writeln!(out, "run {n} line {line}").unwrap();
        writeln!(err, "{line}").unwrap();
    }
    let kept = |name| {
        std::fs::read_to_string(world.folder.join("runs").join(&uid).join("1").join(name)).unwrap()
    };
    assert_eq!((kept("stdout"), kept("stderr")), (out, err), "run-{n}: every line, once");
}

fn processes_of(world: &World) -> Vec<String> {
    let folder = format!("{}/", world.folder.display());
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(&folder) && line.contains("--socket")).collect()
}

#[tokio::test]
async fn twenty_kills_at_random_moments_lose_nothing() {
    let seed = u64::from(std::process::id()) << 20 | 0x5eed;
    println!("seed {seed}");
    let mut random = Random(seed);
    let world = World::at_rest().await;
    let first = operator(&world);
    world.warm_pool("default", 2, 4).await;
    first.kill().unwrap();
    let mut runs = 0;
    for _ in 0..KILLS {
        while unfinished(&world, runs).await < 4 {
            talkative(&world, runs).await;
            runs += 1;
        }
        let operator = operator(&world);
        tokio::time::sleep(Duration::from_millis(150 + random.below(700))).await;
        operator.kill().unwrap();
    }
    println!("{runs} runs");
    let last = operator(&world);
    for n in 0..runs {
        assert_whole(&world, n).await;
    }
    assert!(runs >= 4, "{runs} runs");
    for n in 0..runs {
        world.delete::<AgentRun>(&format!("run-{n}")).await;
    }
    world.delete::<AgentVMPool>("default").await;
    let none = || async { world.fake.list().await.unwrap().is_empty() };
    wait_until_async("no machine is left", none).await;
    assert_eq!(processes_of(&world), Vec::<String>::new());
    // Only the mark of the workspace stays.
    let folders = || async { std::fs::read_dir(world.folder.join("runs")).unwrap().count() == 1 };
    wait_until_async("what runs left is gone with them", folders).await;
    drop(last);
}

/// The number of the first runs that are not over.
async fn unfinished(world: &World, runs: u32) -> u32 {
    let mut count = 0;
    for n in 0..runs {
        let run = world.bench.api::<AgentRun>().get(&format!("run-{n}")).await.unwrap();
        count += u32::from(!agentvm_core::run::is_finished(run.status.as_ref()));
    }
    count
}

#[tokio::test]
async fn a_new_operator_takes_over_idle_machines() {
    let world = World::at_rest().await;
    let first = operator(&world);
    world.warm_pool("default", 2, 2).await;
    let before = nonces(&world).await;
    first.kill().unwrap();
    let _second = operator(&world);
    world.script("after", "true", json!({})).await;
    let run = world.finished("after").await;
    assert_eq!(reason(&run, "Succeeded"), "True/Completed");
    let used: Nonce = run.status.unwrap().attempts[0].nonce.parse().unwrap();
    assert!(before.contains(&used), "it got one of the machines that were there");
    let other: HashSet<_> = before.into_iter().filter(|nonce| *nonce != used).collect();
    assert!(nonces(&world).await.is_superset(&other), "the other one is still the same");
}

#[tokio::test]
async fn a_machine_that_is_lost_costs_an_attempt_and_a_bad_exit_does_not() {
    let world = World::new().await;
    world.warm_pool("default", 2, 3).await;
    let lose = async |name: &str| {
        let machine = world.running(name).await.status.unwrap().vm_name.unwrap();
        let begun = world.share(&machine).join("work/begun");
        wait_until_async("it executes", || async { begun.exists() }).await;
        world.fake.kill_machine(&DomainName::from_recorded(machine)).unwrap();
    };
    world.script("once", "touch begun; sleep 600", json!({})).await;
    lose("once").await;
    let once = world.finished("once").await;
    assert_eq!(
        (reason(&once, "Succeeded"), once.status.unwrap().attempts.len()),
        ("False/GuestLost".into(), 1)
    );
    let again = world.outside("again");
    let script =
        format!("[ -e {0} ] && exit 0; touch {0}; touch begun; sleep 600", again.display());
    world.script("twice", &script, json!({"backoffLimit": 1})).await;
    lose("twice").await;
    let twice = world.finished("twice").await;
    assert_eq!(reason(&twice, "Succeeded"), "True/Completed");
    let ends: Vec<_> =
        twice.status.unwrap().attempts.into_iter().map(|a| (a.number, a.reason.unwrap())).collect();
    assert_eq!(ends, [(1, "GuestLost".to_owned()), (2, "Completed".to_owned())]);
    world.script("bad", "exit 9", json!({"backoffLimit": 3})).await;
    let bad = world.finished("bad").await;
    assert_eq!(
        (reason(&bad, "Succeeded"), bad.status.unwrap().attempts.len()),
        ("False/NonZeroExit".into(), 1)
    );
}

#[tokio::test]
async fn an_orderly_stop_lets_runs_end_or_ends_them_in_time() {
    let mut world = World::new().await;
    world.warm_pool("default", 2, 2).await;
    world.script("long", "echo begun; sleep 600", json!({})).await;
    world.script("short", "sleep 1; exit 4", json!({})).await;
    world.running("long").await;
    world.running("short").await;
    let begun = Instant::now();
    world.stop(Duration::from_secs(11), true).await;
    assert!(begun.elapsed() < Duration::from_secs(13), "{:?}", begun.elapsed());
    let (long, short) = (world.finished("long").await, world.finished("short").await);
    assert_eq!(
        (reason(&long, "Succeeded"), long.status.unwrap().attempts.len()),
        ("False/Evicted".into(), 1)
    );
    assert_eq!(
        (reason(&short, "Succeeded"), short.status.unwrap().exit_code),
        ("False/NonZeroExit".into(), Some(4))
    );
    assert_eq!(world.fake.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_claim_that_was_never_dispatched_is_given_back() {
    let mut world = World::new().await;
    world.warm_pool("default", 1, 1).await;
    world.fake.faults().next(Op::Resume, Fault::Delay(Duration::from_secs(2)));
    world.script("claimed", "true", json!({})).await;
    world.running("claimed").await;
    world.stop(Duration::from_secs(7), false).await;
    let run = world.bench.api::<AgentRun>().get("claimed").await.unwrap();
    assert_eq!(reason(&run, "Succeeded"), "Unknown/Running", "it waits for the next operator");
    assert_eq!(run.status.unwrap().attempts, [], "nothing was attempted");
    world.start().await;
    let run = world.finished("claimed").await;
    assert_eq!(
        (reason(&run, "Succeeded"), run.status.unwrap().attempts.len()),
        ("True/Completed".into(), 1)
    );
}

#[tokio::test]
async fn a_machine_that_holds_the_input_of_a_run_is_lent_to_no_other() {
    let world = World::at_rest().await;
    // The first resume prepares the machine; the second belongs to the claim.
    let binary = Path::new(env!("CARGO_BIN_EXE_fake-operator"));
    let first = Outside::start_and_hang_at_resume(binary, &world, 2).unwrap();
    world.warm_pool("default", 1, 1).await;
    let machine = world.fake.list().await.unwrap().remove(0);
    let files = json!({"files": [{"path": "secret", "content": "of the first run"}]});
    world.script("first", "cat /workspace/input/secret", files).await;
    let input = world.share(machine.record.name.as_str()).join("input/secret");
    wait_until_async("its input is there", || async { input.exists() }).await;
    first.kill().unwrap();
    world.delete::<AgentRun>("first").await;
    let _second = operator(&world);
    world.script("after", "ls /workspace/input", json!({})).await;
    let after = world.finished("after").await.status.unwrap();
    assert_eq!(after.stdout.as_deref(), Some(""), "it found something of another run");
    assert_ne!(after.attempts[0].nonce, machine.record.nonce.as_str());
}
