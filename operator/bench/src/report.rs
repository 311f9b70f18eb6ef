//! The results of a bench, for people and for programs. Pure. The fields are stable.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::stats::{Samples, Summary, ratios};

/// The unit of a figure. It is part of the figure's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Millis,
    Micros,
    Mebibytes,
    MebibytesPerSecond,
    PerSecond,
    Count,
}

impl Unit {
    fn suffix(self) -> &'static str {
        match self {
            Self::Millis => "ms",
            Self::Micros => "us",
            Self::Mebibytes => "mib",
            Self::MebibytesPerSecond => "mib_per_s",
            Self::PerSecond => "per_s",
            Self::Count => "count",
        }
    }

    fn shown(self) -> &'static str {
        match self {
            Self::Millis => "ms",
            Self::Micros => "µs",
            Self::Mebibytes => "MiB",
            Self::MebibytesPerSecond => "MiB/s",
            Self::PerSecond => "/s",
            Self::Count => "",
        }
    }
}

/// One figure with its measurements.
#[derive(Clone, Debug)]
pub struct Subject {
    pub name: String,
    pub unit: Unit,
    pub samples: Samples,
}

/// All results of a bench.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub bench: &'static str,
    pub host: Map<String, Value>,
    pub subjects: Vec<Subject>,
    pub ratios: BTreeMap<String, f64>,
    /// The steps of each subject in order, each with its row.
    pub phases: Vec<(String, Vec<(String, Samples)>)>,
    /// Facts that a reader must know.
    pub notes: Vec<String>,
}

impl Report {
    pub fn new(bench: &'static str, host: Map<String, Value>) -> Self {
        Self { bench, host, ..Self::default() }
    }

    /// Adds a value to the row of this name.
    pub fn add(&mut self, name: &str, unit: Unit, value: f64) {
        let at =
            self.subjects.iter().position(|subject| subject.name == name).unwrap_or_else(|| {
                self.subjects.push(Subject {
                    name: name.to_owned(),
                    unit,
                    samples: Samples::default(),
                });
                self.subjects.len() - 1
            });
        if let Some(subject) = self.subjects.get_mut(at) {
            subject.samples.push(value);
        }
    }

    /// Adds the time of one step of a subject.
    pub fn add_phase(&mut self, subject: &str, phase: &str, millis: f64) {
        let at = self.phases.iter().position(|(name, _)| name == subject).unwrap_or_else(|| {
            self.phases.push((subject.to_owned(), Vec::new()));
            self.phases.len() - 1
        });
        let Some((_, steps)) = self.phases.get_mut(at) else { return };
        let at = steps.iter().position(|(name, _)| name == phase).unwrap_or_else(|| {
            steps.push((phase.to_owned(), Samples::default()));
            steps.len() - 1
        });
        if let Some((_, samples)) = steps.get_mut(at) {
            samples.push(millis);
        }
    }

    /// Puts the rows of one `suffix` into this order, behind all others. The turns rotate, so rows
    /// come in any order.
    pub fn in_order_of(&mut self, contenders: &[&str], suffix: &str) {
        let place = |name: &str| {
            let contender = name.split('/').next().unwrap_or_default().trim_end_matches(suffix);
            let ours = suffix.is_empty() != name.contains('@')
                || (!suffix.is_empty() && name.ends_with(suffix));
            contenders.iter().position(|known| ours && *known == contender).map_or(0, |at| at + 1)
        };
        self.subjects.sort_by_key(|subject| place(&subject.name));
        self.phases.sort_by_key(|(name, _)| place(name));
    }

    pub fn summary(&self, name: &str) -> Option<Summary> {
        self.subjects.iter().find(|subject| subject.name == name)?.samples.summary()
    }

    pub fn samples(&self, name: &str) -> Option<&Samples> {
        self.subjects.iter().find(|subject| subject.name == name).map(|subject| &subject.samples)
    }

    /// Adds ratios of medians: name, above, below. A ratio without both medians is left out.
    pub fn compare(&mut self, wanted: &[(&str, &str, &str)]) {
        let found =
            ratios(wanted.iter().copied(), |name| self.summary(name).map(|summary| summary.p50));
        self.ratios.extend(found);
    }

    pub fn json(&self) -> String {
        let subjects: Vec<Value> = self.subjects.iter().filter_map(subject_json).collect();
        let phases: Map<String, Value> = self
            .phases
            .iter()
            .map(|(name, steps)| {
                let means = steps
                    .iter()
                    .map(|(step, samples)| (step.clone(), json!(rounded(samples.mean()))));
                (name.clone(), Value::Object(means.collect()))
            })
            .collect();
        let all = json!({
            "bench": self.bench,
            "host": self.host,
            "subjects": subjects,
            "ratios": self.ratios,
            "phases": phases,
            "notes": self.notes,
        });
        format!("{all:#}\n")
    }

    /// The table. With `phases`, also the time of each step.
    pub fn table(&self, phases: bool) -> String {
        let width =
            self.subjects.iter().map(|s| s.name.len()).chain(self.ratios.keys().map(String::len));
        let width = width.max().unwrap_or(0).max("subject".len());
        let mut text = self.heading();
        let _ = writeln!(
            text,
            "{:width$}  {:>5}  {:>10}  {:>10}  {:>10}",
            "subject", "n", "min", "median", "p99"
        );
        for subject in &self.subjects {
            let Some(Summary { n, min, p50, p99 }) = subject.samples.summary() else { continue };
            let unit = subject.unit.shown();
            let _ = writeln!(
                text,
                "{:width$}  {n:>5}  {min:>10.1}  {p50:>10.1}  {p99:>10.1}  {unit}",
                subject.name
            );
        }
        if !self.ratios.is_empty() {
            let _ = writeln!(text, "\n{:width$}  {:>10}", "ratio of medians", "");
        }
        for (name, ratio) in &self.ratios {
            let _ = writeln!(text, "{name:width$}  {ratio:>10.3}");
        }
        for (subject, steps) in self.phases.iter().filter(|_| phases) {
            let _ = writeln!(text, "\n{subject}: mean of each step, ms");
            for (step, samples) in steps {
                let _ = writeln!(text, "  {step:width$}  {:>8.1}", samples.mean());
            }
        }
        for note in &self.notes {
            let _ = writeln!(text, "\nnote: {note}");
        }
        text
    }

    fn heading(&self) -> String {
        let parts: Vec<String> = self
            .host
            .iter()
            .map(|(key, value)| match value {
                Value::String(text) => format!("{key} {text}"),
                other => format!("{key} {other}"),
            })
            .collect();
        format!("bench {} on: {}\n\n", self.bench, parts.join(", "))
    }
}

fn subject_json(subject: &Subject) -> Option<Value> {
    let Summary { n, min, p50, p99 } = subject.samples.summary()?;
    let suffix = subject.unit.suffix();
    let mut fields = Map::new();
    fields.insert("name".to_owned(), json!(subject.name));
    fields.insert("n".to_owned(), json!(n));
    for (figure, value) in [("min", min), ("p50", p50), ("p99", p99)] {
        fields.insert(format!("{figure}_{suffix}"), json!(rounded(value)));
    }
    Some(Value::Object(fields))
}

/// Rounds milliseconds to a microsecond.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("reset", Map::from_iter([("cpus".to_owned(), json!(2))]));
        for value in [20.0, 24.0, 22.0] {
            report.add("in_place/restored", Unit::Millis, value);
            report.add("libvirt_revert/ready", Unit::Millis, value * 30.0);
        }
        report.add_phase("in_place", "load", 13.0);
        report.add_phase("in_place", "load", 14.0);
        report.compare(&[
            (
                "libvirt_revert/ready : in_place/restored",
                "libvirt_revert/ready",
                "in_place/restored",
            ),
            ("no", "no", "in_place/restored"),
        ]);
        report
    }

    #[test]
    fn the_json_has_the_fields_that_programs_know() {
        let json: Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(json["bench"], "reset");
        assert_eq!(json["host"]["cpus"], 2);
        let first = json!({
            "name": "in_place/restored", "n": 3, "min_ms": 20.0, "p50_ms": 22.0, "p99_ms": 24.0
        });
        assert_eq!(json["subjects"][0], first);
        assert_eq!(json["ratios"], json!({"libvirt_revert/ready : in_place/restored": 30.0}));
        assert_eq!(json["phases"], json!({"in_place": {"load": 13.5}}));
    }

    #[test]
    fn rows_stand_in_the_order_of_the_contenders_and_sizes_stay_apart() {
        let mut report = Report::new("reset", Map::new());
        for name in ["b/ready", "a/restored", "a/ready"] {
            report.add(name, Unit::Millis, 1.0);
        }
        report.in_order_of(&["a", "b"], "");
        for name in ["b/ready@2048MiB", "a/ready@2048MiB"] {
            report.add(name, Unit::Millis, 1.0);
        }
        report.in_order_of(&["a", "b"], "@2048MiB");
        let names: Vec<&str> =
            report.subjects.iter().map(|subject| subject.name.as_str()).collect();
        assert_eq!(
            names,
            ["a/restored", "a/ready", "b/ready", "a/ready@2048MiB", "b/ready@2048MiB"]
        );
    }

    #[test]
    fn the_table_shows_phases_where_they_are_wanted() {
        let text = report().table(false);
        assert!(
            text.contains("in_place/restored") && text.contains("22.0") && text.contains("30.000"),
            "{text}"
        );
        assert!(!text.contains("mean of each step"));
        assert!(report().table(true).contains("13.5"));
    }

    #[test]
    fn another_unit_stands_in_the_names() {
        let mut report = Report::new("density", Map::new());
        report.add("unshared", Unit::Mebibytes, 60.0);
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["subjects"][0]["p50_mib"], 60.0);
    }
}
