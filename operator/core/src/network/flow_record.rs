//! The network attempts of one run, bounded whatever the run did, and the texts for its status, the
//! log and an Event.

use std::collections::BTreeMap;

use agentvm_crds::{DeniedFlow, RunNetwork};
use ipnet::IpNet;

use super::{Flow, FlowVerdict, Target, denied::advice};

/// The number of destinations that are told apart for each verdict. Further ones are only counted.
const MAX_TARGETS: usize = 64;
/// Denied destinations that a status lists.
const MAX_TOP: usize = 10;
/// Denied destinations that one Event names.
const MAX_NAMED: usize = 5;
/// Denied destinations that Events name in a run's life.
const MAX_NAMED_EVER: usize = 20;

/// The counters of the rules for a machine. They are exact where the log is bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Connections.
    pub allowed: u64,
    /// Packets.
    pub denied: u64,
}

/// The flow record of one run.
#[derive(Debug, Default)]
pub struct FlowRecord {
    allowed: Page,
    denied: Page,
    /// Denied and not named in an Event yet, in the order in which they came.
    unnamed: Vec<(Target, FlowVerdict)>,
    named: usize,
}

/// One side of it.
#[derive(Debug, Default)]
struct Page {
    targets: BTreeMap<Target, u64>,
    all: u64,
    /// Those of destinations that there was no room for.
    more: u64,
}

impl Page {
    /// Whether the destination is worth a line: it is new, and there was room.
    fn note(&mut self, target: Target) -> bool {
        self.all = self.all.saturating_add(1);
        if let Some(count) = self.targets.get_mut(&target) {
            *count = count.saturating_add(1);
            return false;
        }
        if self.targets.len() >= MAX_TARGETS {
            self.more = self.more.saturating_add(1);
            return false;
        }
        self.targets.insert(target, 1).is_none()
    }
}

impl FlowRecord {
    /// Writes something down. Whether it is worth a line in the log: the first of its kind is.
    pub fn note(&mut self, flow: &Flow) -> bool {
        let (verdict, target) = (flow.verdict, flow.target);
        if verdict == FlowVerdict::Allowed {
            return self.allowed.note(target);
        }
        let (first, chatter) =
            if target.is_chatter() { (false, true) } else { (self.denied.note(target), false) };
        if first && !chatter && self.named + self.unnamed.len() < MAX_NAMED_EVER {
            self.unnamed.push((target, verdict));
        }
        first
    }

    /// Whether an Event has something to say.
    pub fn has_news(&self) -> bool {
        !self.unnamed.is_empty()
    }

    /// The text of an Event about the denials since the last Event. `pool` is its name for people;
    /// no policy opens the destinations in `deny_list`.
    pub fn news(&mut self, pool: &str, deny_list: &[IpNet]) -> Option<String> {
        let count = self.unnamed.len().min(MAX_NAMED);
        let named: Vec<_> = self.unnamed.drain(..count).collect();
        self.named += named.len();
        let lines: Vec<String> =
            named.iter().map(|(target, verdict)| advice(target, *verdict, deny_list)).collect();
        if lines.is_empty() {
            return None;
        }
        let more = self.unnamed.len() + usize::try_from(self.denied.more).unwrap_or(usize::MAX);
        let rest = if more == 0 { String::new() } else { format!("; {more} more") };
        Some(format!("not reached from pool {pool}: {}{rest}", lines.join("; ")))
    }

    /// The rest beyond the bound, for the log: "n more dropped".
    pub fn unwritten(&self, counted: Option<Counted>) -> u64 {
        let written = self.denied.all - self.denied.more;
        self.totals(counted).denied.saturating_sub(written)
    }

    /// The larger of two counts: the log is bounded on its way here, and the rules may have been
    /// made again.
    pub fn totals(&self, counted: Option<Counted>) -> Counted {
        let Counted { allowed, denied } = counted.unwrap_or_default();
        Counted { allowed: allowed.max(self.allowed.all), denied: denied.max(self.denied.all) }
    }

    /// The text for the run's status.
    pub fn status(&self, counted: Option<Counted>) -> RunNetwork {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let mut top: Vec<(&Target, u64)> =
            self.denied.targets.iter().map(|(target, count)| (target, *count)).collect();
        top.sort_by_key(|(target, count)| (std::cmp::Reverse(*count), **target));
        let listed = top.into_iter().take(MAX_TOP).map(|(target, count)| DeniedFlow {
            destination: target.to.to_string(),
            port: target.port.map(i32::from),
            protocol: target.kind.to_string(),
            count: signed(count),
        });
        let totals = self.totals(counted);
        RunNetwork {
            allowed: signed(totals.allowed),
            denied: signed(totals.denied),
            top_denied: listed.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Instant;

    use agentvm_crds::Protocol;
    use proptest::prelude::*;

    use super::super::{Destination, TargetKind};
    use super::*;
    use crate::names::DomainName;

    fn target(to: Ipv4Addr, port: u16) -> Target {
        let to = Destination::Address(IpAddr::V4(to));
        Target { kind: TargetKind::Ip(Protocol::Tcp), to, port: Some(port) }
    }

    #[expect(clippy::disallowed_methods, reason = "an Instant can only be read from a clock")]
    fn flow(verdict: FlowVerdict, target: Target) -> Flow {
        Flow { machine: DomainName::from_recorded("m"), at: Instant::now(), verdict, target }
    }

    fn denied(record: &mut FlowRecord, port: u16) -> bool {
        record.note(&flow(FlowVerdict::Denied, target(Ipv4Addr::new(203, 0, 113, 9), port)))
    }

    #[test]
    fn a_destination_is_a_line_once_and_counted_every_time() {
        let mut record = FlowRecord::default();
        assert!(denied(&mut record, 8080) && !denied(&mut record, 8080) && denied(&mut record, 25));
        assert!(
            record.note(&flow(FlowVerdict::Allowed, target(Ipv4Addr::new(203, 0, 113, 9), 443)))
        );
        let status = record.status(None);
        assert_eq!((status.allowed, status.denied, status.top_denied.len()), (1, 3, 2));
        let top = &status.top_denied[0];
        assert_eq!(
            (&*top.destination, top.port, &*top.protocol, top.count),
            ("203.0.113.9", Some(8080), "TCP", 2)
        );
    }

    #[test]
    fn the_rules_counts_win_where_the_log_was_bounded() {
        let mut record = FlowRecord::default();
        denied(&mut record, 8080);
        let counted = Some(Counted { allowed: 7, denied: 500 });
        assert_eq!((record.status(counted).allowed, record.status(counted).denied), (7, 500));
        assert_eq!((record.unwritten(counted), record.unwritten(None)), (499, 0));
    }

    #[test]
    fn an_event_names_each_destination_once() {
        let mut record = FlowRecord::default();
        assert_eq!(record.news("ns/p", &[]), None);
        denied(&mut record, 8080);
        denied(&mut record, 8080);
        let news = record.news("ns/p", &[]).unwrap();
        assert!(news.contains("pool ns/p") && news.matches("8080").count() >= 1, "{news}");
        denied(&mut record, 8080);
        assert!(!record.has_news() && record.news("ns/p", &[]).is_none());
        denied(&mut record, 25);
        assert!(record.news("ns/p", &[]).unwrap().contains("port 25"));
    }

    #[test]
    fn chatter_is_nobodys_news() {
        let mut record = FlowRecord::default();
        let all = "ff02::2".parse().map(IpAddr::V6).unwrap();
        let chatter = Target { kind: TargetKind::Ipv6, to: Destination::Address(all), port: None };
        assert!(!record.note(&flow(FlowVerdict::Frame, chatter)) && !record.has_news());
        assert_eq!(record.status(None), RunNetwork::default());
    }

    proptest! {
        #[test]
        fn a_ledger_is_bounded_whatever_a_run_tries(tried in prop::collection::vec(any::<(u32, u16,
            bool)>(), 0..2_000)) {
            let mut record = FlowRecord::default();
            let (mut lines, mut events, mut longest) = (0, 0, 0);
            for (address, port, allowed) in &tried {
                let verdict = if *allowed { FlowVerdict::Allowed } else { FlowVerdict::Denied };
                lines += usize::from(record.note(&flow(verdict, target(Ipv4Addr::from(*address),
                    *port))));
                if let Some(news) = record.news("some-namespace/some-pool", &[]) {
                    (events, longest) = (events + 1, longest.max(news.len()));
                }
            }
            prop_assert!(lines <= 2 * MAX_TARGETS && events <= MAX_NAMED_EVER && longest < 1000);
            let status = record.status(None);
            prop_assert!(status.top_denied.len() <= MAX_TOP);
            prop_assert!(status.top_denied.windows(2).all(|pair| pair[0].count >= pair[1].count));
            let seen = |wanted: bool| tried.iter().filter(|(_, _,
                allowed)| *allowed == wanted).count();
            prop_assert_eq!(status.allowed, i64::try_from(seen(true)).unwrap());
            prop_assert!(status.denied <= i64::try_from(seen(false)).unwrap());
        }
    }
}
