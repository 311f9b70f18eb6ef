//! What it takes to open a machine's link and to close it, with few machines and with many: the product's own calls on taps that
//! nobody is behind, in a namespace of their own. Beside it: all rules written anew, and an nft that is told nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentvm_core::names::DomainName;
use agentvm_core::network::{Link, Nic, Policy, Subnet};
use agentvm_hypervisor::{Firewall, MachineRecord};
use ipnet::IpNet;

use super::namespace::{Namespace, fed};
use crate::bench::error::{BenchError, step};
use crate::bench::report::{Report, Unit};
use crate::bench::rounds::{bar, millis};

/// How many machines a full host has.
pub const MANY: usize = 64;

/// What the rules are made of.
#[derive(Clone, Debug)]
pub struct Ground {
    pub subnet: Subnet,
    pub policy: Policy,
    pub never: Vec<IpNet>,
    /// A machine like all others.
    pub record: MachineRecord,
}

impl Ground {
    fn policies(&self) -> BTreeMap<String, Policy> {
        BTreeMap::from([(self.record.owner_uid.clone(), self.policy.clone())])
    }

    /// The machine of this number.
    fn machine(&self, number: usize, slot: u32) -> Option<MachineRecord> {
        let address = self.subnet.machines().nth(number)?;
        Some(MachineRecord {
            name: DomainName::for_slot(&self.record.instance, "taps", slot),
            slot,
            nic: Some(Nic::nat(&self.record.instance, &self.subnet, address)),
            ..self.record.clone()
        })
    }
}

/// Machines that are only taps; the links of all of them are open, but for the moment in which one is measured.
struct Taps {
    namespace: Namespace,
    firewall: Arc<Firewall>,
    ground: Ground,
    machines: Vec<(MachineRecord, Link)>,
}

impl Taps {
    async fn new(ground: &Ground, count: usize) -> Result<Self, BenchError> {
        let machines = (0..count).zip(0..).filter_map(|(number, slot)| ground.machine(number, slot));
        let machines: Vec<_> = machines.filter_map(|record| record.link().map(|link| (record, link))).collect();
        let this = Self {
            namespace: Namespace::new()?,
            firewall: Arc::new(Firewall::new(&ground.record.instance)),
            ground: ground.clone(),
            machines,
        };
        let Subnet { bridge, .. } = &ground.subnet;
        let mut commands = format!("link add {bridge} type bridge\nlink set {bridge} up\n");
        for (_, Link { nic, .. }) in &this.machines {
            let _ = writeln!(commands, "tuntap add {0} mode tap\nlink set {0} master {bridge}", nic.tap);
        }
        this.namespace.ip(commands).await?;
        this.police().await?;
        for at in 0..this.machines.len() {
            this.again(at).await?;
        }
        Ok(this)
    }

    /// All rules written anew, in one transaction: what a changed policy takes.
    async fn police(&self) -> Result<Duration, BenchError> {
        let (firewall, ground) = (self.firewall.clone(), self.ground.clone());
        let records: Vec<_> = self.machines.iter().map(|(record, _)| record.clone()).collect();
        let job = move || {
            let began = Instant::now();
            firewall
                .police(&ground.subnet, ground.policies(), &ground.never, &records)
                .map_err(step("write all rules"))?;
            Ok(began.elapsed())
        };
        self.namespace.within(job).await
    }

    /// Closes the link of one and opens it: how long each took.
    async fn again(&self, at: usize) -> Result<[Duration; 2], BenchError> {
        let wrap = at % self.machines.len().max(1);
        let Some((record, link)) = self.machines.get(wrap).cloned() else { return Ok([Duration::ZERO; 2]) };
        let firewall = self.firewall.clone();
        let job = move || {
            let began = Instant::now();
            firewall.close(&record.name, &link).map_err(step("close a link"))?;
            let closed = Instant::now();
            firewall.open(&record.name, &link).map_err(step("open a link"))?;
            Ok([closed.elapsed(), closed - began])
        };
        self.namespace.within(job).await
    }
}

/// All subjects in turn; the first round isn't counted.
pub async fn measure(ground: &Ground, n: usize, report: &mut Report) -> Result<(), BenchError> {
    let (one, many) = (Taps::new(ground, 1).await?, Taps::new(ground, MANY).await?);
    let bar = bar("links", n);
    for round in 0..=n {
        let mut figures = Vec::new();
        for (taps, count) in [(&one, 1), (&many, MANY)] {
            let [opened, closed] = taps.again(round).await?;
            figures.extend([(format!("open@{count}"), opened), (format!("close@{count}"), closed)]);
        }
        figures.push((format!("all_rules@{MANY}"), many.police().await?));
        figures.push(("nft_alone".to_owned(), many.namespace.within(nothing).await?));
        if round > 0 {
            for (name, took) in figures {
                report.add(&name, Unit::Millis, millis(took));
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// The process alone.
fn nothing() -> Result<Duration, BenchError> {
    let began = Instant::now();
    let output = fed(Command::new("nft").args(["-f", "-"]), "").map_err(step("run nft"))?;
    let took = began.elapsed();
    if output.status.success() {
        Ok(took)
    } else {
        Err(BenchError::Found("nft fails where it is told nothing".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use crate::bench::network::tests::example;

    use super::*;

    #[tokio::test]
    async fn every_subject_has_its_figure_and_all_links_stay_open() {
        let ground = example("/bench-links-test");
        let mut report = Report::new("network", serde_json::Map::new());
        measure(&ground, 2, &mut report).await.unwrap();
        let names: Vec<_> = report.subjects.iter().map(|subject| subject.name.as_str()).collect();
        assert_eq!(names, ["open@1", "close@1", "open@64", "close@64", "all_rules@64", "nft_alone"]);
        assert!(report.subjects.iter().all(|subject| subject.samples.summary().unwrap().n == 2));
        let taps = Taps::new(&ground, 3).await.unwrap();
        taps.again(4).await.unwrap();
        let table = format!("list set inet {} linked", taps.firewall.table().name());
        let job = move || Ok(fed(Command::new("nft").args(["-f", "-"]), &table).unwrap().stdout);
        let linked = String::from_utf8(taps.namespace.within(job).await.unwrap()).unwrap();
        assert_eq!(linked.matches("192.168.101.").count(), 3, "{linked}");
    }
}
