//! `agentvm bench fill`: measures from nothing to a pool of prepared machines, in parallel like
//! pools, and one after the other.

use std::sync::Arc;

use agentvm_hypervisor::Golden;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::error::BenchError;
use super::lab::Lab;
use super::product::Machine;
use super::report::Report;
use super::rounds::{Contender, Round, alternate};

/// Fills a pool of `count` machines again and again.
pub async fn run(
    lab: &Arc<Lab>,
    memory_mib: u32,
    count: u32,
    n: usize,
) -> Result<Report, BenchError> {
    let mut report = Report::new("fill", lab.host());
    let golden = lab.golden(memory_mib, Vec::new()).await?;
    // The operator makes this many machines at a time.
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let fill =
        |name, at_once| Fill { lab: lab.clone(), golden: golden.clone(), name, at_once, count };
    let mut contenders: Vec<Box<dyn Contender>> =
        vec![Box::new(fill("parallel", cores)), Box::new(fill("one_by_one", 1))];
    alternate(&mut contenders, n, "", &mut report).await?;
    report.compare(&[("one_by_one/parallel", "one_by_one/filled", "parallel/filled")]);
    report.notes.push(format!(
        "{count} machines of {memory_mib} MiB from nothing to prepared and parked; parallel: \
         {cores} at a time, like the operator on this host"
    ));
    Ok(report)
}

struct Fill {
    lab: Arc<Lab>,
    golden: Golden,
    name: &'static str,
    at_once: usize,
    count: u32,
}

#[async_trait::async_trait(?Send)]
impl Contender for Fill {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn round(&mut self) -> Result<Round, BenchError> {
        let began = Instant::now();
        let (lab, golden) = (&self.lab, &self.golden);
        let made = stream::iter(0..self.count).map(|slot| async move {
            let mut machine = Machine::new(lab, golden, slot)?;
            machine.prepare().await?;
            Ok::<_, BenchError>(machine)
        });
        let machines: Vec<Machine> = made.buffer_unordered(self.at_once).try_collect().await?;
        let took = began.elapsed();
        for machine in &machines {
            machine.destroy().await?;
        }
        Ok(Round::default().figure("filled", took))
    }
}
