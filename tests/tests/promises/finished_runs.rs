//! A finished run is not executed again, whatever a user does to its status. A status that is lost
//! while its machine works is written again.

use std::time::Duration;

use agentvm_crds::AgentRun;
use agentvm_testing::wait_until_async;
use agentvm_tests::{World, reason};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

async fn patch_status(world: &World, name: &str, status: Value) {
    let patch = Patch::Merge(json!({"status": status}));
    let api = world.bench.api::<AgentRun>();
    api.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}

/// A run that counts its executions. It goes on as soon as the file `go` is there.
async fn counted(world: &World, name: &str, go: &str) -> AgentRun {
    let (marks, go) = (world.outside(&format!("marks-{name}")), world.outside(go));
    let script = format!(
        "echo mark >> {}; until [ -e {} ]; do sleep 0.02; done; echo said; exit 3",
        marks.display(),
        go.display()
    );
    world.script(name, &script, json!({})).await
}

fn marks(world: &World, name: &str) -> String {
    std::fs::read_to_string(world.outside(&format!("marks-{name}"))).unwrap_or_default()
}

fn assert_whole(world: &World, run: &AgentRun, about: &str) {
    let name = run.metadata.name.as_deref().unwrap();
    assert_eq!(reason(run, "Succeeded"), "False/NonZeroExit", "{about}: {run:#?}");
    let status = run.status.as_ref().unwrap();
    let seen = (status.exit_code, status.stdout.as_deref(), status.attempts.len());
    assert_eq!(seen, (Some(3), Some("said\n"), 1), "{about}");
    assert_eq!(marks(world, name), "mark\n", "{about}: executed once");
}

/// The ways in which a status loses that its run has ended.
fn losses() -> [Value; 3] {
    let attempt = json!({
        "number": 1, "nodeName": "node-a", "vmName": "vm", "nonce": "00".repeat(16),
        "startTime": "2026-01-01T00:00:00Z", "endTime": null, "reason": null,
    });
    [json!(null), json!({"conditions": []}), json!({"conditions": [], "attempts": [attempt]})]
}

#[tokio::test]
async fn whose_status_is_cleared_get_it_back_and_are_not_executed_again() {
    let mut world = World::new().await;
    world.warm_pool("default", 1, 1).await;
    std::fs::write(world.outside("go"), "").unwrap();
    counted(&world, "run", "go").await;
    let before = world.finished("run").await;
    assert_whole(&world, &before, "at first");
    for restarted in [false, true] {
        for loss in losses() {
            let about = format!("restarted: {restarted}, status: {loss}");
            if restarted {
                world.stop(Duration::from_secs(1), false).await;
            }
            patch_status(&world, "run", loss).await;
            if restarted {
                world.start().await;
            }
            let after = world.finished("run").await;
            assert_whole(&world, &after, &about);
            assert_eq!(after.status, before.status, "{about}");
        }
    }
    // The machine is not in use: another run gets it.
    world.script("next", "true", json!({})).await;
    assert_eq!(reason(&world.finished("next").await, "Succeeded"), "True/Completed");
}

#[tokio::test]
async fn whose_status_is_cleared_while_they_execute_end_as_they_do() {
    let world = World::new().await;
    world.warm_pool("default", 1, 1).await;
    for (n, loss) in losses().into_iter().take(2).enumerate() {
        let (name, go) = (format!("run-{n}"), format!("go-{n}"));
        counted(&world, &name, &go).await;
        let nonce = world.running(&name).await.status.unwrap().attempts[0].nonce.clone();
        wait_until_async("it executes", async || marks(&world, &name) == "mark\n").await;
        patch_status(&world, &name, loss.clone()).await;
        let has_it = |run: &AgentRun| {
            let attempts = run.status.iter().flat_map(|status| &status.attempts);
            attempts.map(|attempt| &attempt.nonce).eq([&nonce])
        };
        world.until(&name, "it has its one attempt again", has_it).await;
        std::fs::write(world.outside(&go), "").unwrap();
        assert_whole(&world, &world.finished(&name).await, &format!("{loss}"));
    }
}
