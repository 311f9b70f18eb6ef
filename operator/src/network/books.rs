//! One book for each run that has a machine right now: opened before its program starts, closed when it is over.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use agentvm_core::{
    names::DomainName,
    network::{Counted, Flow, Ledger},
};
use agentvm_crds::RunNetwork;
use agentvm_hypervisor::Traffic;
use ipnet::IpNet;

use crate::metrics::Metrics;

/// From the first thing that was denied to the Event: what comes in a bunch is one Event.
const GATHER: Duration = Duration::from_secs(1);
/// Between two Events of a run: each costs a write, and a run may cost few.
const AGAIN: Duration = Duration::from_mins(1);

/// Who a machine's flows belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub run_uid: String,
    /// For logs: namespace/name.
    pub run: String,
    /// As in labels: namespace/name.
    pub pool: String,
    /// The machine's own subnets: the host and the other machines.
    pub nearby: Vec<IpNet>,
}

/// Something that an Event is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub run_uid: String,
    pub text: String,
}

/// What became of a flow here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noted {
    /// Worth a line.
    First(Owner),
    /// There was one like it before.
    Again,
    /// No run has the machine.
    Nobodys,
}

/// The books of all machines; cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct Books {
    shelf: Arc<Mutex<Shelf>>,
    /// What no policy opens.
    never: Arc<[IpNet]>,
}

#[derive(Debug, Default)]
struct Shelf {
    open: HashMap<DomainName, Book>,
    /// Of runs that were over before they were told.
    left: Vec<News>,
}

#[derive(Debug)]
struct Book {
    owner: Owner,
    opened: Instant,
    ledger: Ledger,
    /// Since when there is news, and when there was an Event.
    news_since: Option<Instant>,
    told: Option<Instant>,
    /// What metrics have heard of already.
    metered: Traffic,
}

impl Books {
    /// `never`: what no policy opens.
    pub fn new(never: &[IpNet]) -> Self {
        Self { shelf: Arc::default(), never: never.into() }
    }

    /// The machine's flows are this run's from now on.
    pub fn open(&self, machine: &DomainName, owner: Owner) {
        let (ledger, metered) = (Ledger::default(), Traffic::default());
        let book =
            Book { owner, opened: Instant::now(), ledger, news_since: None, told: None, metered };
        self.shelf().open.insert(machine.clone(), book);
    }

    /// The run is over: what its status says. `traffic` is what the rules counted, where they could be asked.
    pub fn close(
        &self,
        machine: &DomainName,
        traffic: Option<Traffic>,
        metrics: &Metrics,
    ) -> Option<RunNetwork> {
        let mut all = self.shelf();
        let mut book = all.open.remove(machine)?;
        // What an Event told of this run a moment ago would have waited for the next one; now there is none.
        if let Some(text) = book.told.is_none().then(|| book.news(&self.never)).flatten() {
            all.left.push(News { run_uid: book.owner.run_uid.clone(), text });
        }
        drop(all);
        let totals = book.ledger.totals(traffic.map(counted));
        book.meter(
            machine,
            Traffic {
                allowed: totals.allowed,
                denied: totals.denied,
                ..traffic.unwrap_or_default()
            },
            metrics,
        );
        let unwritten = book.ledger.unwritten(traffic.map(counted));
        if unwritten > 0 {
            tracing::info!(run = book.owner.run, machine = %machine, "network: {unwritten} more dropped");
        }
        Some(book.ledger.status(traffic.map(counted)))
    }

    /// Writes a flow down.
    pub fn note(&self, flow: &Flow) -> Noted {
        let mut all = self.shelf();
        // One that was heard of before the run had the machine is an earlier one's.
        let Some(book) = all.open.get_mut(&flow.machine).filter(|book| book.opened <= flow.at)
        else {
            return Noted::Nobodys;
        };
        let first = book.ledger.note(flow);
        if book.ledger.has_news() && book.news_since.is_none() {
            book.news_since = Some(flow.at);
        }
        if first { Noted::First(book.owner.clone()) } else { Noted::Again }
    }

    /// What is to be said in Events now.
    pub fn news(&self, now: Instant) -> Vec<News> {
        let mut all = self.shelf();
        let mut told = std::mem::take(&mut all.left);
        for book in all.open.values_mut() {
            let gathered =
                book.news_since.is_some_and(|since| now.saturating_duration_since(since) >= GATHER);
            let may = book.told.is_none_or(|told| now.saturating_duration_since(told) >= AGAIN);
            if !(gathered && may) {
                continue;
            }
            if let Some(text) = book.news(&self.never) {
                book.told = Some(now);
                told.push(News { run_uid: book.owner.run_uid.clone(), text });
            }
            book.news_since = book.ledger.has_news().then_some(now);
        }
        told
    }

    /// Machines of runs.
    pub fn machines(&self) -> Vec<DomainName> {
        self.shelf().open.keys().cloned().collect()
    }

    /// What the rules have counted so far of a machine that goes on.
    pub fn meter(&self, machine: &DomainName, traffic: Traffic, metrics: &Metrics) {
        if let Some(book) = self.shelf().open.get_mut(machine) {
            book.meter(machine, traffic, metrics);
        }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // Every change is whole before anything can panic.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn news(&mut self, never: &[IpNet]) -> Option<String> {
        let never: Vec<IpNet> =
            never.iter().copied().chain(self.owner.nearby.iter().copied()).collect();
        self.ledger.news(&self.owner.pool, &never)
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

    use agentvm_core::network::{Destination, FlowVerdict, Protocol, Target, TargetKind};

    use super::*;

    fn machine() -> DomainName {
        DomainName::from_recorded("m")
    }

    fn owner() -> Owner {
        Owner {
            run_uid: "uid".into(),
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

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_flow_belongs_to_the_run_that_has_the_machine() {
        let (books, before) = (Books::default(), Instant::now());
        assert_eq!(books.note(&denied(1, before)), Noted::Nobodys);
        books.open(&machine(), owner());
        assert_eq!(
            books.note(&denied(1, before)),
            Noted::Nobodys,
            "the run before may have done that"
        );
        let now = Instant::now();
        assert_eq!(books.note(&denied(1, now)), Noted::First(owner()));
        assert_eq!(books.note(&denied(1, now)), Noted::Again);
        let traffic = Traffic { allowed: 3, denied: 9, ..Traffic::default() };
        let status = books.close(&machine(), Some(traffic), &Metrics::off()).unwrap();
        assert_eq!((status.allowed, status.denied, status.top_denied[0].count), (3, 9, 2));
        assert_eq!(books.note(&denied(1, Instant::now())), Noted::Nobodys);
        assert!(
            books.close(&machine(), None, &Metrics::off()).is_none() && books.machines().is_empty()
        );
    }

    #[test]
    fn events_are_gathered_and_few() {
        let books = Books::default();
        books.open(&machine(), owner());
        let start = Instant::now();
        assert_eq!(books.news(start), []);
        books.note(&denied(1, start));
        books.note(&denied(2, start + ms(500)));
        assert_eq!(books.news(start + ms(900)), []);
        let news = books.news(start + ms(1000));
        assert!(
            matches!(news.as_slice(), [only] if only.text.contains("port 1 ") && only.text.contains("port 2 ")),
            "{news:?}"
        );
        books.note(&denied(3, start + ms(2000)));
        assert_eq!(books.news(start + ms(5000)), [], "it was told a moment ago");
        assert_eq!(books.news(start + AGAIN + ms(1000)).len(), 1);
        books.note(&denied(4, start + AGAIN + ms(2000)));
        books.close(&machine(), None, &Metrics::off());
        assert_eq!(books.news(start + AGAIN + AGAIN), [], "its status says the rest");
    }

    #[test]
    fn a_run_that_is_over_at_once_is_told_of_all_the_same() {
        let books = Books::default();
        books.open(&machine(), owner());
        books.note(&denied(1, Instant::now()));
        books.close(&machine(), None, &Metrics::off());
        assert_eq!((books.news(Instant::now()).len(), books.news(Instant::now()).len()), (1, 0));
    }

    #[test]
    fn what_was_counted_twice_is_metered_once() {
        let metrics = Metrics::new().unwrap();
        let books = Books::default();
        books.open(&machine(), owner());
        let traffic =
            |n| Traffic { allowed: n, denied: 2 * n, received_bytes: 10 * n, sent_bytes: n };
        books.meter(&machine(), traffic(5), &metrics);
        books.close(&machine(), Some(traffic(7)), &metrics);
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
