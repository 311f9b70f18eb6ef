//! Contenders take turns, so that changes on the host affect all of them.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::error::BenchError;
use super::report::{Report, Unit};

/// A contender: it brings a machine back to its golden state, or does other work that is compared.
#[async_trait::async_trait(?Send)]
pub trait Contender {
    /// The first part of its figures' names.
    fn name(&self) -> &'static str;

    /// The number of rounds, of `n`, in which the contender takes part. Slow ones take part in
    /// fewer rounds.
    fn wanted(&self, n: usize) -> usize {
        n
    }

    /// One round. The preparation, and the preparation of the next round, are not measured.
    async fn round(&mut self) -> Result<Round, BenchError>;
}

/// The results of one round.
#[derive(Debug, Default)]
pub struct Round {
    figures: Vec<(&'static str, Unit, f64)>,
    phases: Vec<(String, Duration)>,
}

impl Round {
    pub fn figure(self, name: &'static str, took: Duration) -> Self {
        self.value(name, Unit::Millis, millis(took))
    }

    /// A value that is not a time.
    pub fn value(mut self, name: &'static str, unit: Unit, value: f64) -> Self {
        self.figures.push((name, unit, value));
        self
    }

    pub fn phase(mut self, name: impl Into<String>, took: Duration) -> Self {
        self.phases.push((name.into(), took));
        self
    }
}

/// Lets all contenders have their rounds. The first round warms up and isn't counted. `suffix` is
/// added to all names.
pub async fn alternate(
    contenders: &mut [Box<dyn Contender>],
    n: usize,
    suffix: &str,
    report: &mut Report,
) -> Result<(), BenchError> {
    let bar = bar(report.bench, contenders.iter().map(|contender| contender.wanted(n)).sum());
    for round in 0..=n {
        for at in order(contenders.len(), round) {
            let Some(contender) = contenders.get_mut(at) else { continue };
            if !takes_part(contender.wanted(n), n, round) {
                continue;
            }
            bar.set_message(format!("{}{suffix}", contender.name()));
            let found = contender.round().await?;
            // The order of the rounds helps to explain the slowest values of a row.
            tracing::debug!(contender = contender.name(), round, ?found, "measured");
            if round > 0 {
                note(report, contender.name(), suffix, found);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    let names: Vec<&str> = contenders.iter().map(|contender| contender.name()).collect();
    report.in_order_of(&names, suffix);
    Ok(())
}

fn note(report: &mut Report, contender: &str, suffix: &str, found: Round) {
    for (figure, unit, value) in found.figures {
        report.add(&format!("{contender}/{figure}{suffix}"), unit, value);
    }
    for (phase, took) in found.phases {
        report.add_phase(&format!("{contender}{suffix}"), &phase, millis(took));
    }
}

pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A progress bar on standard error, only if that is a terminal.
pub fn bar(bench: &'static str, length: usize) -> ProgressBar {
    let template = "{prefix} [{bar:30}] {pos}/{len} {msg} ({eta} left)";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length as u64).with_style(style.progress_chars("=> ")).with_prefix(bench)
}

/// Each round begins with another contender.
fn order(count: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |at| (at + round) % count)
}

/// Spreads `wanted` rounds of a contender over all `n` rounds. A contender with few rounds has no
/// warm-up.
fn takes_part(wanted: usize, n: usize, round: usize) -> bool {
    if round == 0 { wanted >= n } else { round * wanted / n != (round - 1) * wanted / n }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn everyone_gets_its_rounds_spread_over_all() {
        for (wanted, n) in [(20, 20), (5, 20), (5, 21), (1, 3)] {
            let rounds: Vec<usize> =
                (1..=n).filter(|round| takes_part(wanted, n, *round)).collect();
            assert_eq!(rounds.len(), wanted, "{rounds:?}");
            assert!(*rounds.last().unwrap() == n);
        }
        assert_eq!(order(3, 1).collect::<Vec<_>>(), [1, 2, 0]);
    }

    struct Scripted(&'static str, usize, Arc<Mutex<Vec<&'static str>>>);

    #[async_trait::async_trait(?Send)]
    impl Contender for Scripted {
        fn name(&self) -> &'static str {
            self.0
        }

        fn wanted(&self, n: usize) -> usize {
            self.1.min(n)
        }

        async fn round(&mut self) -> Result<Round, BenchError> {
            self.2.lock().unwrap().push(self.0);
            Ok(Round::default()
                .figure("ready", Duration::from_millis(3))
                .phase("load", Duration::from_millis(1)))
        }
    }

    #[tokio::test]
    async fn the_first_round_is_not_counted_and_turns_rotate() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut all: Vec<Box<dyn Contender>> =
            vec![Box::new(Scripted("a", 9, log.clone())), Box::new(Scripted("b", 1, log.clone()))];
        let mut report = Report::new("reset", serde_json::Map::new());
        alternate(&mut all, 3, "@2048MiB", &mut report).await.unwrap();
        assert_eq!(*log.lock().unwrap(), ["a", "a", "a", "b", "a"]);
        assert_eq!(report.summary("a/ready@2048MiB").unwrap().n, 3);
        assert_eq!(report.summary("b/ready@2048MiB").unwrap().n, 1);
        assert_eq!(report.phases.first().unwrap().0, "a@2048MiB");
    }
}
