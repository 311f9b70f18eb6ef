//! The real controllers on the fake's machines, in a process of its own. Tests kill it, or it ends
//! itself at the place that they name. On SIGTERM it ends in order.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agentvm_core::pool::DiskLimits;
use agentvm_hypervisor::fake::{FakeHypervisor, Fault, Op};
use agentvm_hypervisor::{HookAction, Step, StepHook};
use agentvm_operator::api::TimeLimits;
use agentvm_operator::controllers::Operator;
use agentvm_tests::{
    DIE_AT, Error, HANG_AT, LEASE_SECONDS, NODE_NAME, operator_client, operator_config,
};
use agentvm_types::NodeName;
use tokio::signal::unix::{SignalKind, signal};

const GRACE: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing_subscriber::fmt().with_env_filter("info").with_writer(std::io::stderr).init();
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| {
        arguments.next().ok_or(format!(
            "usage: fake-operator KUBECONFIG NAMESPACE FOLDER AGENT; {what} is missing"
        ))
    };
    let (kubeconfig, namespace) = (PathBuf::from(next("KUBECONFIG")?), next("NAMESPACE")?);
    let (folder, agent) = (PathBuf::from(next("FOLDER")?), PathBuf::from(next("AGENT")?));
    let fake = FakeHypervisor::open(folder.join("host"), agent);
    if let Ok(step) = std::env::var(DIE_AT) {
        let fatal: Step = serde_json::from_str(&step)?;
        // Nothing is tidied up, like after kill -9.
        let die =
            move |_: &_, step| if step == fatal { std::process::abort() } else { HookAction::Go };
        fake.knobs().set_hook(StepHook::new(die));
    }
    if let Ok(nth) = std::env::var(HANG_AT) {
        fake.faults().nth(Op::Resume, nth.parse()?, Fault::Delay(Duration::from_hours(1)));
    }
    let mut config = operator_config(&fake, &folder, &namespace)?;
    // Tests make disks of this process so small that no mark would let a run begin.
    config.disk = DiskLimits { low_mib: 0, critical_mib: 0, ..config.disk };
    if let Ok(name) = std::env::var(NODE_NAME) {
        config.node.name = NodeName::new(name);
    }
    if let Ok(seconds) = std::env::var(LEASE_SECONDS) {
        config.node.lease.duration = Duration::from_secs(seconds.parse()?);
    }
    let (client, _) = operator_client(&kubeconfig, &namespace, TimeLimits::default()).await?;
    let operator = Operator::start(client, Arc::new(fake), config).await?;
    signal(SignalKind::terminate())?.recv().await;
    operator.stop(GRACE, false).await;
    Ok(())
}
