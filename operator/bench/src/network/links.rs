//! Measures the time to open, reopen and close a machine's link, with few machines and with many.
//! It makes the product's own calls on taps without machines, in a namespace of their own. For
//! comparison, it writes all rules at once, and runs nft and conntrack without any work.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentvm_core::names::DomainName;
use agentvm_core::network::{Link, Nic, Policy, Subnet};
use agentvm_hypervisor::{Firewall, MachineRecord};
use agentvm_types::{OwnerUid, PoolUid};
use ipnet::IpNet;

use super::namespace::{Namespace, fed};
use crate::error::{BenchError, step};
use crate::report::{Report, Unit};
use crate::rounds::{bar, millis};

/// The number of machines on a full host.
pub const MANY: usize = 64;
/// On the deny list in each other round.
const CHANGED: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 250));
/// Parts of each call of the operator, without its change: nft with empty input, and conntrack with
/// an unused address.
const ALONE: [(&str, &str, &[&str]); 2] = [
    ("nft_alone", "nft", &["-f", "-"]),
    ("conntrack_alone", "conntrack", &["-D", "-f", "ipv4", "-s", "192.0.2.1"]),
];

/// The inputs of the rules.
#[derive(Clone, Debug)]
pub struct Ground {
    pub subnet: Subnet,
    pub policy: Policy,
    pub deny_list: Vec<IpNet>,
    /// The model of all machines.
    pub record: MachineRecord,
}

impl Ground {
    fn policies(&self) -> BTreeMap<OwnerUid, Policy> {
        BTreeMap::from([(self.record.owner_uid.clone(), self.policy.clone())])
    }

    /// The machine with this number.
    fn machine(&self, number: usize, slot: u32) -> Option<MachineRecord> {
        let address = self.subnet.machines().nth(number)?;
        Some(MachineRecord {
            name: DomainName::for_slot(&self.record.instance, &PoolUid::new("taps"), slot),
            slot,
            nic: Some(Nic::nat(&self.record.instance, &self.subnet, address)),
            ..self.record.clone()
        })
    }
}

/// Taps without machines. The link of one is closed and waits to be opened; all others are open.
struct Taps {
    namespace: Namespace,
    firewall: Arc<Firewall>,
    ground: Ground,
    machines: Vec<(MachineRecord, Link)>,
}

impl Taps {
    async fn new(ground: &Ground, count: usize) -> Result<Self, BenchError> {
        let machines =
            (0..count).zip(0..).filter_map(|(number, slot)| ground.machine(number, slot));
        let machines: Vec<_> =
            machines.filter_map(|record| record.link().map(|link| (record, link))).collect();
        let this = Self {
            namespace: Namespace::new()?,
            firewall: Arc::new(Firewall::new(&ground.record.instance)),
            ground: ground.clone(),
            machines,
        };
        let Subnet { bridge, .. } = &ground.subnet;
        let mut commands = format!("link add {bridge} type bridge\nlink set {bridge} up\n");
        for (_, Link { nic, .. }) in &this.machines {
            let _ = writeln!(
                commands,
                "tuntap add {0} mode tap\nlink set {0} master {bridge}",
                nic.tap
            );
        }
        this.namespace.ip(commands).await?;
        this.apply(1).await?;
        for at in 1..count {
            this.open(at).await?;
        }
        Ok(this)
    }

    /// Writes all rules in one transaction, like for a changed deny list. With an unchanged one,
    /// nothing is written.
    async fn apply(&self, round: usize) -> Result<Duration, BenchError> {
        let (firewall, ground) = (self.firewall.clone(), self.ground.clone());
        let records: Vec<_> = self.machines.iter().map(|(record, _)| record.clone()).collect();
        let mut deny_list = ground.deny_list.clone();
        deny_list.extend((round % 2 == 1).then_some(CHANGED).map(IpNet::from));
        let job = move || {
            let began = Instant::now();
            firewall
                .enforce(&ground.subnet, ground.policies(), &deny_list, &records)
                .and_then(|refused| refused.into_values().next().map_or(Ok(()), Err))
                .map_err(step("write all rules"))?;
            Ok(began.elapsed())
        };
        self.namespace.within(job).await
    }

    /// Opens a link, like for a new machine.
    async fn open(&self, at: usize) -> Result<Duration, BenchError> {
        self.with(at, |firewall, record, link| {
            firewall.admit(&record.name, link).map_err(step("open a link"))
        })
        .await
    }

    /// Opens a link again, like after a reset: the reset has set the tap down, but its rules still
    /// exist.
    async fn reopen(&self, at: usize) -> Result<Duration, BenchError> {
        self.with(at, |firewall, _, link| {
            firewall.set_tap_down(&link.nic.tap).map_err(step("set a tap down"))
        })
        .await?;
        self.open(at).await
    }

    /// Closes a link, like at the end of a machine.
    async fn close(&self, at: usize) -> Result<Duration, BenchError> {
        self.with(at, |firewall, record, link| {
            firewall.cut_off(&record.name, link).map_err(step("close a link"))
        })
        .await
    }

    async fn with(
        &self,
        at: usize,
        job: impl FnOnce(&Arc<Firewall>, &MachineRecord, &Link) -> Result<(), BenchError>
        + Send
        + 'static,
    ) -> Result<Duration, BenchError> {
        let machine = self.machines.get(at).cloned();
        let (record, link) = machine
            .ok_or_else(|| BenchError::Found("the subnet has no room for the taps".to_owned()))?;
        let firewall = self.firewall.clone();
        let timed = move || {
            let began = Instant::now();
            job(&firewall, &record, &link)?;
            Ok(began.elapsed())
        };
        self.namespace.within(timed).await
    }
}

/// Measures all figures in turn. The first round isn't counted.
pub async fn measure(ground: &Ground, n: usize, report: &mut Report) -> Result<(), BenchError> {
    let (one, many) = (Taps::new(ground, 1).await?, Taps::new(ground, MANY).await?);
    let bar = bar("links", n);
    for round in 0..=n {
        let mut figures = Vec::new();
        for (taps, count) in [(&one, 1), (&many, MANY)] {
            figures.push((format!("open@{count}"), taps.open(round % count).await?));
            figures.push((format!("reopen@{count}"), taps.reopen(round % count).await?));
            // This closes the next round's link. The kernel then works for a while, which must not
            // disturb a measured link.
            figures.push((format!("close@{count}"), taps.close((round + 1) % count).await?));
        }
        figures.push((format!("all_rules@{MANY}"), many.apply(round).await?));
        for (name, program, arguments) in ALONE {
            figures.push((
                name.to_owned(),
                many.namespace.within(move || alone(program, arguments)).await?,
            ));
        }
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

/// Runs one process.
fn alone(program: &str, arguments: &[&str]) -> Result<Duration, BenchError> {
    let began = Instant::now();
    let output =
        fed(Command::new(program).args(arguments), "").map_err(step(format!("run {program}")))?;
    let took = began.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    // If conntrack finds no entry to delete, it reports this and exits with 1.
    if output.status.success() || said.contains("0 flow entries") {
        return Ok(took);
    }
    Err(BenchError::Found(format!("{program}: {}", said.trim())))
}

#[cfg(test)]
mod tests {
    use crate::network::tests::example;

    use super::*;

    #[tokio::test]
    #[cfg_attr(
        not(feature = "host-tests"),
        ignore = "needs root and programs of the host: make test-host"
    )]
    async fn every_subject_has_its_figure_and_links_are_what_was_said_last() {
        let ground = example("/bench-links-test");
        let mut report = Report::new("network", serde_json::Map::new());
        measure(&ground, 2, &mut report).await.unwrap();
        let names: Vec<_> = report.subjects.iter().map(|subject| subject.name.as_str()).collect();
        let each =
            ["open@1", "reopen@1", "close@1", "open@64", "reopen@64", "close@64", "all_rules@64"];
        assert_eq!(names, [&each[..], &["nft_alone", "conntrack_alone"]].concat());
        assert!(report.subjects.iter().all(|subject| subject.samples.summary().unwrap().n == 2));
        let taps = Taps::new(&ground, 3).await.unwrap();
        taps.open(0).await.unwrap();
        taps.reopen(1).await.unwrap();
        taps.close(2).await.unwrap();
        let table = format!("list set inet {} linked", taps.firewall.table().name());
        let job = move || Ok(fed(Command::new("nft").args(["-f", "-"]), &table).unwrap().stdout);
        let linked = String::from_utf8(taps.namespace.within(job).await.unwrap()).unwrap();
        assert_eq!(linked.matches("192.168.101.").count(), 2, "{linked}");
    }
}
