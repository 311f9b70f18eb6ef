//! Counters of the operator and the API server, read from their metrics like a monitoring system
//! reads them.

use std::net::SocketAddr;

use kube::Client;
use kube::api::GetParams;
use kube::core::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::error::{BenchError, step};

/// Counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    /// Writes to runs and Events that the API server accepted, from all clients.
    pub writes: f64,
    /// Reconciles of runs, and their total seconds.
    pub reconciles: f64,
    pub reconcile_seconds: f64,
    /// Resets of machines, each with the preparation for the next run, and their total seconds.
    pub resets: f64,
    pub reset_seconds: f64,
}

impl Counters {
    pub async fn read(client: &Client, operator: SocketAddr) -> Result<Self, BenchError> {
        let request = Request::new("")
            .get("metrics", &GetParams::default())
            .map_err(step("ask for metrics"))?;
        let server =
            client.request_text(request).await.map_err(step("read the API server's metrics"))?;
        let own = get(operator).await.map_err(step("read the operator's metrics"))?;
        let run = [("kind", &["AgentRun"][..])];
        let reset = [("kind", &["reset"][..])];
        Ok(Self {
            writes: sum(
                &server,
                "apiserver_request_total",
                &[("resource", &RESOURCES), ("verb", &VERBS)],
            ),
            reconciles: sum(&own, "agentvm_reconcile_duration_seconds_count", &run),
            reconcile_seconds: sum(&own, "agentvm_reconcile_duration_seconds_sum", &run),
            resets: sum(&own, "agent_vm_boot_duration_seconds_count", &reset),
            reset_seconds: sum(&own, "agent_vm_boot_duration_seconds_sum", &reset),
        })
    }
}

const RESOURCES: [&str; 2] = ["agentruns", "events"];
const VERBS: [&str; 5] = ["POST", "PUT", "PATCH", "APPLY", "DELETE"];

async fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// The sum of all series of a name whose labels have one of the values.
fn sum(metrics: &str, name: &str, labels: &[(&str, &[&str])]) -> f64 {
    let series = metrics
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
    let wanted = series.filter(|line| {
        let has = |label: &str, value: &str| {
            [format!("{{{label}=\"{value}\""), format!(",{label}=\"{value}\"")]
                .iter()
                .any(|part| line.contains(part))
        };
        labels.iter().all(|(label, values)| values.iter().any(|value| has(label, value)))
    });
    wanted.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_summed_up() {
        let metrics = r#"
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",resource="agentruns",scope="resource",subresource="status",verb="PUT"} 12
apiserver_request_total{code="201",resource="agentruns",scope="resource",subresource="",verb="POST"} 4
apiserver_request_total{code="201",resource="events",scope="resource",verb="POST"} 4
apiserver_request_total{code="200",resource="agentruns",scope="cluster",verb="WATCH"} 9
apiserver_request_total{code="200",resource="agentvmpools",scope="resource",verb="PUT"} 7
apiserver_request_total{code="200",resource="leases",scope="resource",verb="PUT"} 1e+06
apiserver_request_total_other{resource="events",verb="PUT"} 5
agentvm_reconcile_duration_seconds_sum{kind="AgentRun"} 0.25
"#;
        let wanted: [(&str, &[&str]); 2] = [("resource", &RESOURCES), ("verb", &VERBS)];
        assert!((sum(metrics, "apiserver_request_total", &wanted) - 20.0).abs() < 1e-9);
        let run: [(&str, &[&str]); 1] = [("kind", &["AgentRun"])];
        assert!((sum(metrics, "agentvm_reconcile_duration_seconds_sum", &run) - 0.25).abs() < 1e-9);
        assert!(sum(metrics, "absent", &run).abs() < 1e-9);
    }
}
