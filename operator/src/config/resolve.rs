//! The pure merge: the value that wins for each key, its origin, and all mistakes in all values.
//!
//! Values that lose are checked too. Otherwise a flag that overrides a value would hide a mistake
//! in a file.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value as Json;

use super::file::{Content, Entry};
use super::keys::Key;
use super::unknown_key::unknown;
use super::value::Value;
use super::{ConfigError, Flags, HostDefaults, Origin, Problem, Settings};

/// The input of the merge. The files are in order, weakest first.
pub(super) struct Given<'a> {
    /// The entries of all files: first the host's file, then the user's.
    pub files: Vec<Entry>,
    pub environment: BTreeMap<String, String>,
    pub flags: &'a Flags,
    pub host: HostDefaults,
}

/// The configuration, and the origin of each value.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    pub settings: Settings,
    /// One row for each key, in the order of the documentation.
    pub origins: Vec<Row>,
}

/// One value with its origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    pub key: &'static str,
    pub value: Json,
    pub origin: Origin,
}

impl Row {
    /// The value in the form that a file would hold.
    pub fn text(&self) -> String {
        self.value.as_str().map_or_else(|| self.value.to_string(), str::to_owned)
    }
}

/// Merges the layers and checks all values.
pub(super) fn resolve(given: &Given<'_>) -> Result<Loaded, ConfigError> {
    let mut layers = Layers::new(given);
    let settings =
        Settings::take(&mut layers, &given.host, given.flags.default_workspace.as_deref());
    layers.refuse_unknown();
    if layers.problems.is_empty() {
        return Ok(Loaded { settings, origins: layers.rows });
    }
    layers.problems.sort_by_key(|problem| position(&problem.origin));
    Err(ConfigError::Wrong(layers.problems))
}

/// The layers, while values are taken out of them.
pub(super) struct Layers {
    /// All given values of each path, weakest first.
    candidates: BTreeMap<String, Vec<(Content, Origin)>>,
    environment: BTreeMap<String, String>,
    flags: BTreeMap<String, Vec<(Content, Origin)>>,
    rows: Vec<Row>,
    problems: Vec<Problem>,
}

impl Layers {
    fn new(given: &Given<'_>) -> Self {
        let mut candidates: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for Entry { path, content, origin } in given.files.iter().cloned() {
            candidates.entry(path).or_default().push((content, origin));
        }
        let mut flags: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for value in &given.flags.values {
            let origin = Origin::Flag { flag: value.flag.to_owned() };
            flags
                .entry(value.key.to_owned())
                .or_default()
                .push((Content::Scalar(value.text.clone()), origin));
        }
        let environment = given.environment.clone();
        Self { candidates, environment, flags, rows: Vec::new(), problems: Vec::new() }
    }

    /// Takes a key out, and returns the strongest given value, or `default`.
    pub fn take<T: Value>(&mut self, key: &Key<T>, default: T) -> T {
        let mut given = self.candidates.remove(key.path).unwrap_or_default();
        given.extend(self.variable(key.variable));
        given.extend(self.flags.remove(key.path).unwrap_or_default());
        let (mut value, mut origin) = (default, Origin::Default);
        for (content, from) in given {
            match read(&content, key) {
                Ok(read) => (value, origin) = (read, from),
                Err(what) => {
                    self.problems.push(Problem { origin: from, key: key.path.to_owned(), what });
                }
            }
        }
        self.rows.push(Row { key: key.path, value: value.json(), origin });
        value
    }

    /// Whether any layer gave a value for a key that was taken out.
    pub fn is_given<T>(&self, key: &Key<T>) -> bool {
        self.rows.iter().any(|row| row.key == key.path && row.origin != Origin::Default)
    }

    /// Reports two values that contradict each other. The message begins with the stronger origin,
    /// because the mistake is more likely there.
    pub fn require(&mut self, holds: bool, low: &'static str, high: &'static str) {
        if holds {
            return;
        }
        let find = |key: &str| self.rows.iter().find(|row| row.key == key);
        let (Some(low), Some(high)) = (find(low), find(high)) else { return };
        let what = format!(
            "{} ({}) is greater than {}, which is {} ({}); lower the first or raise the second",
            low.text(),
            low.origin,
            high.key,
            high.text(),
            high.origin
        );
        let origin =
            if low.origin == Origin::Default { high.origin.clone() } else { low.origin.clone() };
        self.problems.push(Problem { origin, key: low.key.to_owned(), what });
    }

    /// An empty variable counts as unset, like in libvirt and most programs.
    fn variable(&self, name: Option<&str>) -> Option<(Content, Origin)> {
        let name = name?;
        let text = self.environment.get(name).filter(|text| !text.is_empty())?;
        Some((Content::Scalar(text.clone()), Origin::Environment { variable: name.to_owned() }))
    }

    fn refuse_unknown(&mut self) {
        let known: Vec<&str> = self.rows.iter().map(|row| row.key).collect();
        for (path, entries) in
            std::mem::take(&mut self.candidates).into_iter().chain(std::mem::take(&mut self.flags))
        {
            for (content, origin) in entries {
                if let Some(what) = unknown(&path, &content, &known) {
                    self.problems.push(Problem { origin, key: path.clone(), what });
                }
            }
        }
    }
}

fn read<T>(content: &Content, key: &Key<T>) -> Result<T, String> {
    match content {
        Content::Scalar(text) => (key.parse)(text),
        Content::Empty => {
            Err("has no value; give it one, or remove the line to use the default".to_owned())
        }
        Content::List => Err("is a list; it takes a single value".to_owned()),
    }
}

/// Problems are reported in the order in which a person looks for them: files from the top, then
/// environment, then flags.
fn position(origin: &Origin) -> (u8, String, u64, u64) {
    match origin {
        Origin::File { path, line, column } => {
            (0, path.to_string_lossy().into_owned(), *line, *column)
        }
        Origin::Environment { variable } => (1, variable.clone(), 0, 0),
        Origin::Flag { flag } => (2, flag.clone(), 0, 0),
        Origin::Default => (3, String::new(), 0, 0),
    }
}
