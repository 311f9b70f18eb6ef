//! The traffic of a link: the counters in the rules, and those of the tap. They only grow. So the
//! values at each opening of the link are the base of that opening.

use std::fs;

use agentvm_core::network::{Link, Table, rules};

use super::nft::Nft;
use crate::{HvError, Traffic};

/// The readings of one machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    /// When its link was opened last.
    base: Traffic,
    /// While it was closed.
    closed: Traffic,
}

impl Meter {
    /// For a new machine. Another machine may have had its tap's name and its address before, with
    /// counters.
    pub fn new(now: Traffic) -> Self {
        Self { base: now, closed: now }
    }

    /// After its link was closed.
    pub fn note(&mut self, now: Traffic) {
        self.closed = now;
    }

    /// The counters stand as they stood when the link was closed; the tap has had no traffic since.
    pub fn begin(&mut self, link: &Link) {
        self.base = Traffic { ..self.closed };
        (self.base.received_bytes, self.base.sent_bytes) = bytes(&link.nic.tap);
    }

    /// The rules were made anew, and begin at nothing.
    pub fn forget_counts(&mut self) {
        for reading in [&mut self.base, &mut self.closed] {
            (reading.allowed, reading.denied) = (0, 0);
        }
    }

    /// Since the link was opened last.
    pub fn since(&self, now: Traffic) -> Traffic {
        now.since(self.base)
    }
}

/// All counts until now. A missing element has counted nothing.
pub fn read(nft: &Nft, table: &Table, link: &Link) -> Result<Traffic, HvError> {
    match nft.ask("read a machine's counters", &questions(table, link)) {
        Ok(answer) => Ok(of_answer(link, &answer)),
        Err(HvError::NetworkUnavailable { detail, .. }) if detail.contains("No such file") => {
            Ok(of_answer(link, ""))
        }
        Err(other) => Err(other),
    }
}

/// The question to nft.
pub fn questions(table: &Table, link: &Link) -> String {
    let (allowed, denied) = rules::counters(link);
    let question = |c: &rules::Counter| {
        let quote = if c.family == "bridge" { "\"" } else { "" };
        format!(
            "get element {} {} {} {{ {quote}{}{quote} }}\n",
            c.family,
            table.name(),
            c.set,
            c.element
        )
    };
    allowed.iter().chain(&denied).map(question).collect()
}

/// The answer of nft.
pub fn of_answer(link: &Link, answer: &str) -> Traffic {
    let packets = packets(answer);
    let (yes, no) = packets.split_at(rules::counters(link).0.len().min(packets.len()));
    let (received_bytes, sent_bytes) = bytes(&link.nic.tap);
    Traffic { allowed: yes.iter().sum(), denied: no.iter().sum(), received_bytes, sent_bytes }
}

/// The bytes to the machine and from it, since its tap was made; nothing without a tap.
fn bytes(tap: &str) -> (u64, u64) {
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/sys/class/net/{tap}/statistics/{name}")).ok();
        text.and_then(|text| text.trim().parse().ok()).unwrap_or_default()
    };
    // The host receives the bytes that the machine sends.
    (read("tx_bytes"), read("rx_bytes"))
}

/// `… counter packets 7 bytes 420 …`, one for each question.
fn packets(answer: &str) -> Vec<u64> {
    let after = answer.split("counter packets ").skip(1);
    after.filter_map(|rest| rest.split(' ').next()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_in_the_order_of_the_questions() {
        let answer = "table inet t {\n\tset allowed {\n\t\telements = { 192.168.101.10 counter \
            packets 7 bytes 420 }\n\t}\n}\n\
                      table bridge t {\n\tset refused {\n\t\telements = { \"avm0a1b-10\" counter \
                      packets 12 bytes 0 }\n\t}\n}\n";
        assert_eq!(packets(answer), [7, 12]);
        assert_eq!(packets(""), Vec::<u64>::new());
    }
}
