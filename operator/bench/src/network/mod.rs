//! `agentvm bench network`: measures the cost of the network rules. It measures a machine's
//! throughput with and without rules, and the time to open a machine's link on a host with many
//! machines.

mod links;
mod namespace;
mod place;
mod stand_in;
mod talk;
mod throughput;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use agentvm_core::network::policy;
use agentvm_crds::Profile;
use agentvm_hypervisor::MachineRecord;

use super::error::{BenchError, step};
use super::guest;
use super::lab::Lab;
use super::product::Machine;
use super::report::Report;
use crate::args::{BenchNetwork, Common};
use agentvm_operator::agent::rehydrate;
use agentvm_operator::config::Settings;
use agentvm_operator::doctor::observe::command;

use links::{Ground, MANY};
use place::Place;

/// The limit for the rules of one machine, ms in the median, beside [`MANY`] machines.
const TARGET: f64 = 10.0;

/// Reports obstacles before any part is made.
pub fn refuse(common: &Common) -> Result<(), BenchError> {
    if common.network == BenchNetwork::Isolated {
        return Err(BenchError::Found(
            "bench network measures machines with a network: leave out --network".to_owned(),
        ));
    }
    let programs = [
        ("nft", "nftables"),
        ("conntrack", "conntrack"),
        ("ip", "iproute2"),
        ("unshare", "util-linux"),
    ];
    match programs.into_iter().find(|(program, _)| command::find(program).is_none()) {
        Some((program, package)) => Err(BenchError::Found(format!(
            "there is no {program} on this host: apt-get install {package}"
        ))),
        None => Ok(()),
    }
}

pub async fn run(
    lab: &Arc<Lab>,
    settings: &Settings,
    memory_mib: u32,
    n: usize,
) -> Result<Report, BenchError> {
    let mut report = Report::new("network", lab.host());
    let defaults = settings.defaults();
    let policy = policy(None, None, 0, &defaults, Profile::Standard)
        .map_err(step("use the network that is configured"))?;
    let subnet = lab.hv.subnet().await.map_err(step("make the machines' network"))?;
    let golden = lab.golden(memory_mib, Vec::new()).await?;
    let mut machine = Machine::new(lab, &golden, 0)?;
    let deny_list = defaults.network.deny_cidrs;
    let mut ground = Ground { subnet, policy, deny_list, record: machine.spec.record.clone() };
    through(&mut machine, &ground, n, &mut report).await?;
    // The record of the network device with which the machine was made.
    ground.record.clone_from(&machine.spec.record);
    lab.clear().await;
    if command::find(stand_in::PYTHON).is_some() {
        let place =
            Place::new(ground.subnet.clone(), ground.record.clone(), ground.deny_list.clone())
                .await?;
        let _machine = place.stand_in().await?;
        throughput::measure(place, ground.policy.clone(), throughput::WIRE, n, &mut report).await?;
    } else {
        report.notes.push(format!(
            "nothing was measured on the wire alone: there is no {} on this host",
            stand_in::PYTHON
        ));
    }
    links::measure(&ground, n, &mut report).await?;
    compare(&mut report);
    report.notes.push(notes(memory_mib));
    report.notes.extend(verdict(&report));
    Ok(report)
}

/// A machine like a pool's, except that its link is opened in the namespace.
async fn through(
    machine: &mut Machine,
    ground: &Ground,
    n: usize,
    report: &mut Report,
) -> Result<(), BenchError> {
    machine.create().await?;
    machine.wake().await?;
    let record: &MachineRecord = &machine.spec.record;
    let mut session = machine
        .session
        .take()
        .ok_or_else(|| BenchError::Found("there is no session with the machine".to_owned()))?;
    let network = machine.lab.network.guest_network(record);
    let given = rehydrate(&mut session, record, network, false, jiff::Timestamp::now()).await;
    given.map_err(step("give the machine its identity"))?;
    let place = Place::new(ground.subnet.clone(), record.clone(), ground.deny_list.clone()).await?;
    place.move_tap().await?;
    let address = talk::ADDRESS.to_string();
    let argv = ["python3", "-c", talk::SCRIPT, &address];
    let policy = ground.policy.clone();
    tokio::select! {
        done = throughput::measure(place, policy, throughput::MACHINE, n, report) => done,
        ended = guest::execute_endless(&mut session, record, &argv) => {
            let ended_early = || BenchError::Found("the machine's program ended".to_owned());
            Err(ended.err().unwrap_or_else(ended_early))
        }
    }
}

fn compare(report: &mut Report) {
    let whole = format!("all_rules@{MANY}");
    let (few, many) = ("open@1", format!("open@{MANY}"));
    report.compare(&[
        ("rules_sent/no_rules_sent", "rules/sent", "no_rules/sent"),
        ("rules_received/no_rules_received", "rules/received", "no_rules/received"),
        ("rules_answer/no_rules_answer", "rules/answer", "no_rules/answer"),
        ("rules_connection/no_rules_connection", "rules/connection", "no_rules/connection"),
        ("wire_rules_sent/wire_no_rules_sent", "wire_rules/sent", "wire_no_rules/sent"),
        (
            "wire_rules_received/wire_no_rules_received",
            "wire_rules/received",
            "wire_no_rules/received",
        ),
        ("wire_rules_answer/wire_no_rules_answer", "wire_rules/answer", "wire_no_rules/answer"),
        (
            "wire_rules_connection/wire_no_rules_connection",
            "wire_rules/connection",
            "wire_no_rules/connection",
        ),
        (&format!("all_rules/open_{MANY}"), &whole, &many),
        (&format!("open_{MANY}/open_1"), &many, few),
    ]);
}

fn verdict(report: &Report) -> Option<String> {
    let median = report.summary(&format!("open@{MANY}"))?.p50;
    let word = if median <= TARGET { "met" } else { "missed" };
    Some(format!(
        "target: the rules of one machine within {TARGET} ms in the median at {MANY} machines: \
         {word} ({median:.1} ms)"
    ))
}

fn notes(memory_mib: u32) -> String {
    format!(
        "a machine of {memory_mib} MiB moves {} MiB over one connection in each direction, in \
         namespaces of the bench's own; rules: the default policy without a limit of bandwidth; \
         no_rules: no table, so no masquerading and no tracking either; wire: a process of the \
         host in place of the machine; answer: one byte there and back; connection: the time of \
         connect in the machine; open, reopen and close: the operator's calls on taps without a \
         machine, for a machine that is made, was reset, ends, with the processes of nft and \
         conntrack; all_rules: all rules written in one transaction; nft_alone, conntrack_alone: \
         without any work",
        talk::BYTES >> 20
    )
}
