//! Measures throughput and latency of a machine's network, with and without the product's rules.

use std::sync::Arc;
use std::time::Duration;

use agentvm_core::network::Policy;
use tokio::sync::Mutex;

use super::place::{Held, Place};
use super::talk::{BYTES, Talk};
use crate::density::mebibytes;
use crate::error::BenchError;
use crate::report::{Report, Unit};
use crate::rounds::{Contender, Round, alternate};

/// So high that no machine sends or gets more in a second: the rule exists, but never drops.
const PLENTY: u32 = 10_000_000;

/// The names of the two figures for a machine,
pub const MACHINE: [&str; 2] = ["rules", "no_rules"];
/// and for a process of the host in its place.
pub const WIRE: [&str; 2] = ["wire_rules", "wire_no_rules"];

/// Measures both in turn, with the machine that connects from `place`. `policy` is the default
/// policy of pools.
pub async fn measure(
    place: Place,
    mut policy: Policy,
    [with, without]: [&'static str; 2],
    n: usize,
    report: &mut Report,
) -> Result<(), BenchError> {
    // A limit would dominate the measurement after the first second's burst.
    (policy.limits.bytes_per_second, policy.limits.packets_per_second) = (None, PLENTY);
    let place = Arc::new(Mutex::new(place));
    let mut contenders: Vec<Box<dyn Contender>> = vec![
        Box::new(Way { name: with, held: Held::ByRules(policy), place: place.clone() }),
        Box::new(Way { name: without, held: Held::ByNothing, place }),
    ];
    alternate(&mut contenders, n, "", report).await
}

/// One variant of the rules for the machine.
struct Way {
    name: &'static str,
    held: Held,
    place: Arc<Mutex<Place>>,
}

#[async_trait::async_trait(?Send)]
impl Contender for Way {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn round(&mut self) -> Result<Round, BenchError> {
        let mut place = self.place.lock().await;
        let mut talk: Talk = place.hold(&self.held).await?;
        let answered = talk.answered().await?;
        let begun = talk.begun().await?;
        let (sent, received) = (talk.sent().await?, talk.received().await?);
        Ok(Round::default()
            .value("sent", Unit::MebibytesPerSecond, rate(sent))
            .value("received", Unit::MebibytesPerSecond, rate(received))
            .value("answer", Unit::Micros, micros(answered))
            .value("connection", Unit::Micros, micros(begun)))
    }
}

fn micros(took: Duration) -> f64 {
    took.as_secs_f64() * 1e6
}

fn rate(took: Duration) -> f64 {
    mebibytes(BYTES) / took.as_secs_f64().max(f64::EPSILON)
}
