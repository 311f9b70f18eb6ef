//! The metrics of an operator, on a real API server: the numbers tell what happened, and go away
//! with their pool.

use agentvm_crds::{AgentRun, AgentVMPool, GoldenSnapshot};
use agentvm_operator::metrics::Metrics;
use agentvm_testing::wait_until_async;
use agentvm_tests::World;
use serde_json::json;

/// The value of a series; 0 without the series.
fn value(metrics: &Metrics, series: &str) -> f64 {
    let text = metrics.text();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    line.unwrap_or(0.0)
}

fn is(was: f64, wanted: u32) -> bool {
    (was - f64::from(wanted)).abs() < f64::EPSILON
}

#[tokio::test]
async fn what_happens_is_counted_and_forgotten_with_its_pool() {
    let mut world = World::at_rest().await;
    let metrics = Metrics::new().unwrap();
    world.config.metrics = metrics.clone();
    world.start().await;
    world
        .pool_with("default", json!({"warm": {"min": 1, "max": 2}, "healthCheckSeconds": 1}))
        .await;
    world.says::<AgentVMPool>("default", "Ready", "True/Filled").await;
    let pool = format!("{}/default", world.bench.namespace);
    let warm = format!("agent_vm_pool_size{{pool_id=\"{pool}\",state=\"warm\"}}");
    wait_until_async("a warm machine is counted", || async { is(value(&metrics, &warm), 1) }).await;

    world.script("run", "true", json!({})).await;
    world.finished("run").await;
    world.script("fails", "exit 3", json!({})).await;
    world.finished("fails").await;
    let ended =
        |status: &str| format!("agent_execution_total{{pool_id=\"{pool}\",status=\"{status}\"}}");
    let all = format!("agent_execution_duration_seconds_count{{pool_id=\"{pool}\"}}");
    let counted = || async {
        is(value(&metrics, &ended("Completed")), 1)
            && is(value(&metrics, &ended("NonZeroExit")), 1)
            && is(value(&metrics, &all), 2)
    };
    wait_until_async("both runs are counted", counted).await;
    let hit = format!(
        "agent_vm_pool_acquire_duration_seconds_count{{pool_id=\"{pool}\",result=\"hit\"}}"
    );
    assert!(value(&metrics, &hit) >= 1.0, "the first run found a machine:\n{}", metrics.text());

    for series in [
        format!(
            "agent_vm_reset_duration_seconds_count{{pool_id=\"{pool}\",result=\"proven\",\
             tier=\"fresh\"}}"
        ),
        format!("agent_vm_boot_duration_seconds_count{{kind=\"clone\",pool_id=\"{pool}\"}}"),
        format!("agent_vm_boot_duration_seconds_count{{kind=\"reset\",pool_id=\"{pool}\"}}"),
    ] {
        wait_until_async("machines are measured as they are made", || async {
            value(&metrics, &series) >= 1.0
        })
        .await;
    }

    let as_sent = || async {
        let sent =
            world.wire.writes().iter().filter(|sent| sent.path.contains("/agentruns/")).count();
        is(
            value(&metrics, "agentvm_api_writes_total{kind=\"AgentRun\",verb=\"update\"}"),
            u32::try_from(sent).unwrap(),
        )
    };
    wait_until_async("every write to a run is counted", as_sent).await;
    assert!(
        value(&metrics, "agentvm_reconcile_duration_seconds_count{kind=\"AgentVMPool\"}") >= 1.0
    );
    let memory = || async { metrics.text().contains("agent_vm_unshared_memory_bytes{vm_id=") };
    wait_until_async("idle machines are measured", memory).await;

    world.delete::<AgentRun>("run").await;
    world.delete::<AgentRun>("fails").await;
    world.delete::<AgentVMPool>("default").await;
    world.delete::<GoldenSnapshot>("default").await;
    let gone = || async {
        let text = metrics.text();
        !text.contains(&pool) && !text.contains("vm_id")
    };
    wait_until_async("the pool's series are gone", gone).await;
}
