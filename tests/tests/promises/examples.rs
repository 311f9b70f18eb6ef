//! Users copy examples: the API server and the operator accept each one in the guide, in README and
//! in the API reference. The samples have tests of their own.

use agentvm_core::defaults::Defaults;
use agentvm_crds::{AgentRunSpec, AgentVMPoolSpec, GoldenSnapshotSpec, Profile};
use agentvm_operator::config::{Flags, load};
use agentvm_testing::{examples, repository};
use agentvm_tests::Bench;
use serde::de::DeserializeOwned;
use serde_json::Value;

const KINDS: [&str; 3] = ["GoldenSnapshot", "AgentVMPool", "AgentRun"];

/// An object with these fields of its spec (lines of YAML), and with those that every object of its
/// kind needs.
fn object(kind: &str, fields: &[String]) -> String {
    let has = |name: &str| fields.iter().any(|line| line.starts_with(&format!("{name}:")));
    let needs = match kind {
        "GoldenSnapshot" if has("source") => "resources: {profile: Light}",
        "GoldenSnapshot" => "source: {builtin: Debian}",
        "AgentVMPool" => "goldenSnapshotRef: {name: debian}",
        _ if has("command") || has("code") => "priority: 1",
        _ => "command: ['true']",
    };
    let head =
        format!("apiVersion: agentvm.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: example}}");
    format!("{head}\nspec:\n  {needs}\n{}", indented(fields))
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// The text with the objects in this namespace. The namespace of an example is not there, and its
/// name changes nothing.
fn moved(text: &str, namespace: &str) -> String {
    let mut parts = text.split("namespace: ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |done, rest| {
        let rest = rest.trim_start_matches(|of: char| of.is_ascii_alphanumeric() || of == '-');
        format!("{done}namespace: {namespace}{rest}")
    })
}

/// The readings of a block: a whole object; fields of a spec, or of a run's status.
fn readings(text: &str) -> Vec<String> {
    if text.contains("kind:") {
        return vec![text.to_owned()];
    }
    let cut = |lines: &mut dyn Iterator<Item = &str>, columns: usize| -> Vec<String> {
        lines.map(|line| line.get(columns..).unwrap_or_default().to_owned()).collect()
    };
    let plain = cut(&mut text.lines(), text.len() - text.trim_start().len());
    let fields = match plain.split_first() {
        Some((first, rest)) if first == "spec:" => cut(&mut rest.iter().map(String::as_str), 2),
        _ => plain.clone(),
    };
    let specs = KINDS.iter().map(|kind| object(kind, &fields));
    let status = format!("{}\nstatus:\n{}", object("AgentRun", &[]), indented(&plain));
    specs.chain([status]).collect()
}

/// Whether the API server and the operator accept the objects; else the reason.
async fn accepted(bench: &Bench, yaml: &str) -> Result<(), String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), yaml).unwrap();
    let path = file.path().to_str().unwrap();
    let create = ["create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", path];
    let output = bench.kubectl(&create).await.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() || !stderr.is_empty() {
        return Err(stderr);
    }
    // One object after another, where the example has several.
    let made = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
    made.map(Result::unwrap).try_for_each(|made| {
        let objects = made["items"].as_array().cloned().unwrap_or_else(|| vec![made.clone()]);
        objects.iter().try_for_each(taken)
    })
}

fn taken(object: &Value) -> Result<(), String> {
    fn spec<T: DeserializeOwned>(object: &Value) -> T {
        serde_json::from_value(object["spec"].clone()).unwrap()
    }
    let mut defaults = Defaults::default();
    // The administrator of the guide lists the networks of its example.
    defaults.network.allowed_private_cidrs.push("10.0.0.0/8".parse().unwrap());
    let refused = match object["kind"].as_str().unwrap() {
        "GoldenSnapshot" => {
            agentvm_core::golden::recipe(&spec::<GoldenSnapshotSpec>(object), &defaults).err()
        }
        "AgentVMPool" => {
            let spec = spec::<AgentVMPoolSpec>(object);
            agentvm_core::pool::validate(&spec, &defaults, Profile::Standard).err()
        }
        "AgentRun" => {
            agentvm_core::run::validate(&spec::<AgentRunSpec>(object), &defaults, Some(3600)).err()
        }
        _ => None,
    };
    refused.map_or(Ok(()), |why| Err(why.to_string()))
}

fn is_configuration(text: &str) -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    load(&Flags { config_file: Some(file.path().to_owned()), ..Flags::default() }).is_ok()
}

/// Whether a block is accepted in one of its readings; else the reason for each of them.
async fn understood(bench: &Bench, text: &str) -> Result<(), Vec<String>> {
    if is_configuration(text) {
        return Ok(());
    }
    let mut refusals = Vec::new();
    for reading in readings(&moved(text, &bench.namespace)) {
        match accepted(bench, &reading).await {
            Ok(()) => return Ok(()),
            Err(why) => refusals.push(why),
        }
    }
    Err(refusals)
}

#[tokio::test]
async fn every_block_of_the_pages_is_accepted_as_something() {
    let bench = Bench::new().await.unwrap();
    let mut refused = Vec::new();
    for example in examples::blocks() {
        if let Err(why) = understood(&bench, &example.text).await {
            refused.push(format!("{}: {why:#?}", example.origin));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[tokio::test]
async fn a_block_with_a_mistake_is_accepted_as_nothing() {
    let bench = Bench::new().await.unwrap();
    for mistake in [
        "queue: {kee: alice}",
        "spec:\n  maxReuse: 100",
        "network:\n  alowed: 5",
        "  network:\n    allow:\n    - {protocol: TCP, ports: [5432], cidrs: [10.1.2.3/99]}",
        "vm: {default_profil: light}",
        "vm: {default_profile: tiny}",
        "apiVersion: agentvm.dev/v1alpha1\nkind: AgentRun\nmetadata: {name: none}\nspec: {}",
    ] {
        assert!(understood(&bench, mistake).await.is_err(), "accepted: {mistake}");
    }
}

/// The path of a field in the API reference, with an example: `e.g. …`.
fn inline(reference: &str) -> Vec<(&str, &str, &str)> {
    let mut kind = "";
    let mut found = Vec::new();
    for line in reference.lines() {
        kind = line.strip_prefix("## ").unwrap_or(kind);
        let Some((field, rest)) = line.strip_prefix("| `spec.").and_then(|row| row.split_once('`'))
        else {
            continue;
        };
        let given = rest.split("e.g. `").skip(1).chain(rest.split("name one: `").skip(1));
        found.extend(given.filter_map(|text| Some((kind, field, text.split_once('`')?.0))));
    }
    found
}

/// The field with this value, and with the fields that its neighbours are required to be.
fn field(path: &str, value: &str) -> String {
    let mut names = path.split('.').rev();
    let mut text = format!("{}: {value}", names.next().unwrap());
    for name in names {
        text = match name.strip_suffix("[]") {
            Some("files") => format!("files: [{{{text}, content: ''}}]"),
            Some(list) => format!("{list}: [{{{text}}}]"),
            None if name == "rootfs" => format!("{name}: {{{text}, sha256: {}}}", "a".repeat(64)),
            None => format!("{name}: {{{text}}}"),
        };
    }
    text
}

#[tokio::test]
async fn every_value_that_the_reference_names_is_accepted() {
    let bench = Bench::new().await.unwrap();
    let reference = std::fs::read_to_string(repository().join("docs/api-reference.md")).unwrap();
    let found = inline(&reference);
    assert!(found.len() >= 6, "the reference was not understood: {found:?}");
    for (kind, path, value) in found {
        let yaml = object(kind, &[field(path, value)]);
        let outcome = accepted(&bench, &yaml).await;
        assert!(outcome.is_ok(), "{kind} {path}, {value}: {outcome:?}\n{yaml}");
    }
}
