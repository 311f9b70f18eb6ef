//! Names from the documentation, closed sets of labels, and series that go away with their object.

use super::*;

fn full() -> Metrics {
    let metrics = Metrics::new().unwrap();
    let took = Duration::from_millis(24);
    for pool in ["ns/a", "ns/b"] {
        metrics.pool(
            pool,
            Counts { warm: 2, claimed: 1, creating: 0, resetting: 1, quarantined: 0, total: 4 },
        );
        metrics.booted(pool, BootKind::Clone, took);
        metrics.reset(pool, Tier::InPlace, ResetResult::Proven, took);
        metrics.acquired(pool, AcquireKind::Hit, took);
        metrics.run_ended(pool, "Completed", Some(took));
    }
    metrics.api_write(Kind::AgentRun, Verb::Update);
    let quota_bytes = 2 << 30;
    metrics.store(StoreUsage {
        file_bytes: 3 << 20,
        used_bytes: 1 << 20,
        quota_bytes,
        full: false,
    });
    metrics.reconciled("AgentRun", took);
    metrics.reconcile_failed("AgentRun", "api");
    metrics.machines("ns/a", &[machine("m-1"), machine("m-2")]);
    metrics.machines("ns/b", &[machine("m-3")]);
    metrics
}

fn machine(name: &str) -> (DomainName, Usage) {
    (DomainName::from_recorded(name), Usage { unshared_bytes: 40 << 20, resident_bytes: 90 << 20 })
}

#[test]
fn every_name_and_label_is_as_documented() {
    let text = full().text();
    for line in [
        "agent_vm_pool_size{pool_id=\"ns/a\",state=\"warm\"} 2",
        "agent_vm_pool_size{pool_id=\"ns/a\",state=\"resetting\"} 1",
        "agent_vm_boot_duration_seconds_count{kind=\"clone\",pool_id=\"ns/a\"} 1",
        "agent_vm_reset_duration_seconds_bucket\
         {pool_id=\"ns/a\",result=\"proven\",tier=\"in_place\",le=\"0.025\"} 1",
        "agent_vm_reset_duration_seconds_bucket\
         {pool_id=\"ns/a\",result=\"proven\",tier=\"in_place\",le=\"0.015\"} 0",
        "agent_vm_pool_acquire_duration_seconds_count{pool_id=\"ns/a\",result=\"hit\"} 1",
        "agent_vm_unshared_memory_bytes{vm_id=\"m-1\"} 41943040",
        "agent_vm_memory_usage_bytes{vm_id=\"m-1\"} 94371840",
        "agent_execution_total{pool_id=\"ns/a\",status=\"Completed\"} 1",
        "agent_execution_duration_seconds_count{pool_id=\"ns/a\"} 1",
        "agentvm_reconcile_duration_seconds_count{kind=\"AgentRun\"} 1",
        "agentvm_reconcile_errors_total{error=\"api\",kind=\"AgentRun\"} 1",
        "agentvm_api_writes_total{kind=\"AgentRun\",verb=\"update\"} 1",
        "agentvm_store_bytes{part=\"file\"} 3145728",
        "agentvm_store_bytes{part=\"used\"} 1048576",
        "agentvm_store_bytes{part=\"quota\"} 2147483648",
        "agentvm_build_info{",
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line} is not in\n{text}");
    }
}

#[test]
fn series_of_machines_go_when_the_machine_is_gone() {
    let metrics = full();
    metrics.machines("ns/a", &[machine("m-2")]);
    let text = metrics.text();
    assert!(
        !text.contains("\"m-1\"") && text.contains("\"m-2\"") && text.contains("\"m-3\""),
        "{text}"
    );
}

#[test]
fn series_of_pools_go_with_the_pool_and_take_its_machines_along() {
    let metrics = full();
    metrics.keep_pools(|pool| pool == "ns/b");
    let text = metrics.text();
    for gone in ["ns/a", "m-1", "m-2"] {
        assert!(!text.contains(gone), "{gone} is still in\n{text}");
    }
    assert!(text.contains("ns/b") && text.contains("m-3"));
    assert!(
        text.contains("agentvm_reconcile_duration_seconds_count{kind=\"AgentRun\"} 1"),
        "these series belong to no object, so they stay"
    );
}

#[test]
fn off_is_off() {
    let metrics = Metrics::off();
    metrics.run_ended("ns/a", "Completed", None);
    metrics.machines("ns/a", &[machine("m-1")]);
    metrics.keep_pools(|_| false);
    assert_eq!(metrics.text(), "");
}
