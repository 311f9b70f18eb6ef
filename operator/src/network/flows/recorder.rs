//! One flow record for each run that has a machine: it begins before the run's program starts, and
//! is finished when the run is over.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use agentvm_core::{
    names::DomainName,
    network::{Counted, EventPacing, Flow, FlowRecord},
};
use agentvm_crds::RunNetwork;
use agentvm_hypervisor::Traffic;
use agentvm_types::RunUid;
use ipnet::IpNet;

use crate::{clock::Clock, metrics::Metrics};

/// The run that a machine's flows belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub run_uid: RunUid,
    /// For logs: namespace/name.
    pub run: String,
    /// The pool as in labels: namespace/name.
    pub pool: String,
    /// The machine's own subnets: the host and the other machines.
    pub nearby: Vec<IpNet>,
}

/// The text of an Event about a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub run_uid: RunUid,
    pub text: String,
}

/// The answer to a new flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noted {
    /// The first flow like it: worth a log line.
    First(Owner),
    /// The record has a flow like it.
    Again,
    /// No run had the machine at the time of the flow.
    Nobodys,
}

/// The flow records of all machines. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct FlowRecorder {
    records: Arc<Mutex<Records>>,
    /// Destinations that no policy opens.
    deny_list: Arc<[IpNet]>,
    clock: Clock,
}

#[derive(Debug, Default)]
struct Records {
    open: HashMap<DomainName, OpenRecord>,
    /// The news of runs that ended before their Event was written.
    left: Vec<News>,
}

#[derive(Debug)]
struct OpenRecord {
    owner: Owner,
    opened: Instant,
    flows: FlowRecord,
    pacing: EventPacing,
    /// The traffic that the metrics have counted already.
    metered: Traffic,
}

impl FlowRecorder {
    /// `deny_list`: destinations that no policy opens.
    pub fn new(deny_list: &[IpNet], clock: Clock) -> Self {
        Self { records: Arc::default(), deny_list: deny_list.into(), clock }
    }

    /// The machine's flows are this run's from now on.
    pub fn begin(&self, machine: &DomainName, owner: Owner) {
        let (flows, metered) = (FlowRecord::default(), Traffic::default());
        let record = OpenRecord {
            owner,
            opened: self.clock.instant().into_std(),
            flows,
            pacing: EventPacing::default(),
            metered,
        };
        self.lock().open.insert(machine.clone(), record);
    }

    /// The run is over: returns its status. `traffic` has the counters of the rules, if they could
    /// be read.
    pub fn finish(
        &self,
        machine: &DomainName,
        traffic: Option<Traffic>,
        metrics: &Metrics,
    ) -> Option<RunNetwork> {
        let mut all = self.lock();
        let mut record = all.open.remove(machine)?;
        // News after the last Event waits for the next Event; a run that is over has no next one.
        if !record.pacing.had_event()
            && let Some(text) = record.news(&self.deny_list)
        {
            all.left.push(News { run_uid: record.owner.run_uid.clone(), text });
        }
        drop(all);
        let totals = record.flows.totals(traffic.map(counted));
        record.meter(
            machine,
            Traffic {
                allowed: totals.allowed,
                denied: totals.denied,
                ..traffic.unwrap_or_default()
            },
            metrics,
        );
        let unwritten = record.flows.unwritten(traffic.map(counted));
        if unwritten > 0 {
            tracing::info!(run = record.owner.run, machine = %machine,
                "network: {unwritten} more dropped");
        }
        Some(record.flows.status(traffic.map(counted)))
    }

    /// Writes a flow down.
    pub fn note(&self, flow: &Flow) -> Noted {
        let mut all = self.lock();
        // A flow from before the run had the machine belongs to an earlier run.
        let Some(record) =
            all.open.get_mut(&flow.machine).filter(|record| record.opened <= flow.at)
        else {
            return Noted::Nobodys;
        };
        let first = record.flows.note(flow);
        if record.flows.has_news() {
            record.pacing.on_news(flow.at);
        }
        if first { Noted::First(record.owner.clone()) } else { Noted::Again }
    }

    /// The Events that are due now.
    pub fn news(&self, now: Instant) -> Vec<News> {
        let mut all = self.lock();
        let mut due = std::mem::take(&mut all.left);
        for record in all.open.values_mut().filter(|record| record.pacing.is_due(now)) {
            let text = record.news(&self.deny_list);
            record.pacing.on_event(now, text.is_some(), record.flows.has_news());
            due.extend(text.map(|text| News { run_uid: record.owner.run_uid.clone(), text }));
        }
        due
    }

    /// Machines of runs.
    pub fn machines(&self) -> Vec<DomainName> {
        self.lock().open.keys().cloned().collect()
    }

    /// The counters of the rules so far, for a machine whose run goes on.
    pub fn meter(&self, machine: &DomainName, traffic: Traffic, metrics: &Metrics) {
        if let Some(record) = self.lock().open.get_mut(machine) {
            record.meter(machine, traffic, metrics);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        // Every change is whole before anything can panic.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenRecord {
    fn news(&mut self, deny_list: &[IpNet]) -> Option<String> {
        let deny_list: Vec<IpNet> =
            deny_list.iter().copied().chain(self.owner.nearby.iter().copied()).collect();
        self.flows.news(&self.owner.pool, &deny_list)
    }

    fn meter(&mut self, machine: &DomainName, traffic: Traffic, metrics: &Metrics) {
        metrics.network(&self.owner.pool, machine, traffic.since(self.metered));
        self.metered = traffic;
    }
}

fn counted(traffic: Traffic) -> Counted {
    Counted { allowed: traffic.allowed, denied: traffic.denied }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use agentvm_core::network::{Destination, FlowVerdict, Protocol, Target, TargetKind};

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn machine() -> DomainName {
        DomainName::from_recorded("m")
    }

    fn owner() -> Owner {
        Owner {
            run_uid: RunUid::new("uid"),
            run: "ns/run".into(),
            pool: "ns/pool".into(),
            nearby: vec![],
        }
    }

    fn denied(port: u16, at: Instant) -> Flow {
        let to = Destination::Address(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)));
        let target = Target { kind: TargetKind::Ip(Protocol::Tcp), to, port: Some(port) };
        Flow { machine: machine(), at, verdict: FlowVerdict::Denied, target }
    }

    fn now() -> Instant {
        Clock::system().instant().into_std()
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_flow_belongs_to_the_run_that_has_the_machine() {
        let (recorder, before) = (FlowRecorder::default(), now());
        assert_eq!(recorder.note(&denied(1, before)), Noted::Nobodys);
        recorder.begin(&machine(), owner());
        assert_eq!(
            recorder.note(&denied(1, before)),
            Noted::Nobodys,
            "the run before may have done that"
        );
        let later = now();
        assert_eq!(recorder.note(&denied(1, later)), Noted::First(owner()));
        assert_eq!(recorder.note(&denied(1, later)), Noted::Again);
        let traffic = Traffic { allowed: 3, denied: 9, ..Traffic::default() };
        let status = recorder.finish(&machine(), Some(traffic), &Metrics::off()).unwrap();
        assert_eq!((status.allowed, status.denied, status.top_denied[0].count), (3, 9, 2));
        assert_eq!(recorder.note(&denied(1, now())), Noted::Nobodys);
        assert!(
            recorder.finish(&machine(), None, &Metrics::off()).is_none()
                && recorder.machines().is_empty()
        );
    }

    #[test]
    fn events_are_gathered_and_few() {
        let recorder = FlowRecorder::default();
        recorder.begin(&machine(), owner());
        let start = now();
        assert_eq!(recorder.news(start), []);
        recorder.note(&denied(1, start));
        recorder.note(&denied(2, start + ms(500)));
        assert_eq!(recorder.news(start + ms(900)), []);
        let news = recorder.news(start + ms(1000));
        assert!(
            matches!(news.as_slice(), [only] if only.text.contains("port \
                1 ") && only.text.contains("port 2 ")),
            "{news:?}"
        );
        recorder.note(&denied(3, start + ms(2000)));
        assert_eq!(recorder.news(start + ms(5000)), [], "it was told a moment ago");
        assert_eq!(recorder.news(start + MINUTE + ms(1000)).len(), 1);
        recorder.note(&denied(4, start + MINUTE + ms(2000)));
        recorder.finish(&machine(), None, &Metrics::off());
        assert_eq!(recorder.news(start + MINUTE + MINUTE), [], "its status says the rest");
    }

    #[test]
    fn a_run_that_is_over_at_once_is_told_of_all_the_same() {
        let recorder = FlowRecorder::default();
        recorder.begin(&machine(), owner());
        recorder.note(&denied(1, now()));
        recorder.finish(&machine(), None, &Metrics::off());
        assert_eq!((recorder.news(now()).len(), recorder.news(now()).len()), (1, 0));
    }

    #[test]
    fn what_was_counted_twice_is_metered_once() {
        let metrics = Metrics::new().unwrap();
        let recorder = FlowRecorder::default();
        recorder.begin(&machine(), owner());
        let traffic =
            |n| Traffic { allowed: n, denied: 2 * n, received_bytes: 10 * n, sent_bytes: n };
        recorder.meter(&machine(), traffic(5), &metrics);
        recorder.finish(&machine(), Some(traffic(7)), &metrics);
        let text = metrics.text();
        for line in [
            "agent_vm_network_connections_total{pool_id=\"ns/pool\",verdict=\"allowed\"} 7",
            "agent_vm_network_connections_total{pool_id=\"ns/pool\",verdict=\"denied\"} 14",
            "agent_vm_network_receive_bytes_total{vm_id=\"m\"} 70",
            "agent_vm_network_transmit_bytes_total{vm_id=\"m\"} 7",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        metrics.machine_gone(&machine());
        assert!(!metrics.text().contains("vm_id"));
    }
}
