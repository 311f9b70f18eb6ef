//! How much a machine gets through its network and how soon, with the product's rules and without any.

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

/// So many that no machine sends or gets more in a second: the rule is there, and never says no.
const PLENTY: u32 = 10_000_000;

/// What the two ways are called where a machine is measured,
pub const MACHINE: [&str; 2] = ["rules", "no_rules"];
/// and where a process of the host is in its place.
pub const WIRE: [&str; 2] = ["wire_rules", "wire_no_rules"];

/// Both subjects in turn, with the machine that calls from `place`. `policy`: the one of pools that ask for nothing.
pub async fn measure(
    place: Place,
    mut policy: Policy,
    [with, without]: [&'static str; 2],
    n: usize,
    report: &mut Report,
) -> Result<(), BenchError> {
    // A limit would be all that is measured, once the second's worth is used up that the kernel gives in advance.
    (policy.limits.bytes_per_second, policy.limits.packets_per_second) = (None, PLENTY);
    let place = Arc::new(Mutex::new(place));
    let mut contenders: Vec<Box<dyn Contender>> = vec![
        Box::new(Way { name: with, held: Held::ByRules(policy), place: place.clone() }),
        Box::new(Way { name: without, held: Held::ByNothing, place }),
    ];
    alternate(&mut contenders, n, "", report).await
}

/// One way to hold the machine.
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
