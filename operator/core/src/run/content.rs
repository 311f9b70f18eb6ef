//! The content of a run, its Secrets and ConfigMaps included, against the limits of a machine. It
//! is judged before the claim: a machine can only refuse it.

use std::collections::BTreeSet;

use agentvm_crds::Place;
use agentvm_types::{SECRETS_BLOCK, SECRETS_BYTES, SECRETS_INODES};

use super::{Content, EnvValue, KeyOf, ValidRun};
use crate::invalid_spec::InvalidSpec;

/// The longest name and value of a variable together, bytes. The kernel takes strings of 128 KiB,
/// and `=` and NUL belong to them.
const MAX_VARIABLE: usize = 128 * 1024 - 2;
/// All names and values together, bytes.
const MAX_ENV: usize = 512 * 1024;
/// Command, environment and stdin on their way into the machine, bytes. The message may have 1 MiB.
const MAX_MESSAGE: usize = 1024 * 1024 - 4096;
/// The JSON around a variable.
const AROUND_A_VARIABLE: usize = 96;

/// Checks everything that the run brings. `resolved` has the bytes behind a key.
pub fn check_content<'a>(
    run: &'a ValidRun,
    resolved: impl Fn(&KeyOf) -> &'a [u8],
) -> Result<(), InvalidSpec> {
    let environment = check_env(run, &resolved)?;
    check_message(run, environment)?;
    check_secret_files(run, &resolved)
}

/// The bytes that the environment takes in the message to the machine.
fn check_env<'a>(
    run: &'a ValidRun,
    resolved: &impl Fn(&KeyOf) -> &'a [u8],
) -> Result<usize, InvalidSpec> {
    let (mut sum, mut message) = (0_usize, 0_usize);
    for (index, item) in run.env.iter().enumerate() {
        let (value, field) = match &item.value {
            EnvValue::Literal(text) => (text.as_bytes(), "value"),
            EnvValue::From(key) => (resolved(key), "valueFrom"),
        };
        let refuse = |problem| Err(InvalidSpec::new(format!("spec.env[{index}].{field}"), problem));
        if value.contains(&0) {
            return refuse("must not contain NUL: no variable can; take a file".to_owned());
        }
        let size = item.name.len() + value.len();
        if size > MAX_VARIABLE {
            return refuse(format!(
                "name and value have {size} bytes; at most {MAX_VARIABLE} are allowed: take a file"
            ));
        }
        sum = sum.saturating_add(size);
        message = message
            .saturating_add(item.name.len() * 2 + value.len().div_ceil(3) * 4 + AROUND_A_VARIABLE);
    }
    if sum > MAX_ENV {
        let problem = format!(
            "all names and values have {sum} bytes; at most {MAX_ENV} are allowed: take files"
        );
        return Err(InvalidSpec::new("spec.env", problem));
    }
    Ok(message)
}

/// A command and its stdin fit by themselves, because a spec does. A large environment may be too
/// much for them.
fn check_message(run: &ValidRun, environment: usize) -> Result<(), InvalidSpec> {
    let command = serde_json::to_vec(&run.program.argv).map_or(usize::MAX, |text| text.len());
    let stdin = run.stdin.as_ref().map_or(0, |text| text.len().div_ceil(3) * 4);
    let all = command.saturating_add(stdin).saturating_add(environment);
    if all <= MAX_MESSAGE {
        return Ok(());
    }
    let problem = format!(
        "command, stdin and environment take {all} bytes on their way into the machine; at most \
         {MAX_MESSAGE} are allowed: take files"
    );
    Err(InvalidSpec::new("spec.env", problem))
}

fn check_secret_files<'a>(
    run: &'a ValidRun,
    resolved: &impl Fn(&KeyOf) -> &'a [u8],
) -> Result<(), InvalidSpec> {
    let (mut entries, mut blocks) = (BTreeSet::from([""]), 0_u64);
    for (index, file) in run.files.iter().enumerate() {
        if file.place != Place::Secrets {
            continue;
        }
        let content = match &file.content {
            Content::Bytes(bytes) => bytes,
            Content::From(key) => resolved(key),
        };
        blocks += (content.len() as u64).div_ceil(SECRETS_BLOCK);
        let mut path = file.path.as_str();
        while entries.insert(path) {
            path = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        }
        let refuse = |problem| Err(InvalidSpec::new(format!("spec.files[{index}]"), problem));
        if blocks * SECRETS_BLOCK > SECRETS_BYTES {
            return refuse(format!(
                "with this file, the files with place: Secrets have {} bytes, each in blocks of \
                 {SECRETS_BLOCK}; at most {SECRETS_BYTES} are allowed",
                blocks * SECRETS_BLOCK
            ));
        }
        if entries.len() > SECRETS_INODES {
            return refuse(format!(
                "with this file, there are {} files and folders in /workspace/secrets; at most \
                 {SECRETS_INODES} are allowed",
                entries.len()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{defaults::Defaults, run::validate};

    /// The path and the problem that a run has, if the key `k` of any Secret has this content.
    fn judged(spec: &Value, content: &[u8]) -> Option<String> {
        let mut base = json!({"command": ["true"]});
        base.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let spec = serde_json::from_value(base).unwrap();
        let run = validate(&spec, &Defaults::default(), None).unwrap();
        check_content(&run, |_| content).err().map(|why| why.to_string())
    }

    fn variables(count: usize) -> Value {
        let source = json!({"secretKeyRef": {"name": "s", "key": "k"}});
        let variable = |n| json!({"name": format!("V{n:03}"), "valueFrom": source});
        json!({"env": (0..count).map(variable).collect::<Vec<_>>()})
    }

    fn secret_files(paths: impl Iterator<Item = String>) -> Value {
        let source = json!({"secretKeyRef": {"name": "s", "key": "k"}});
        let file = |path| json!({"path": path, "place": "Secrets", "contentFrom": source});
        json!({"files": paths.map(file).collect::<Vec<_>>()})
    }

    fn bytes(count: usize) -> Vec<u8> {
        vec![1; count]
    }

    #[track_caller]
    fn refused(spec: &Value, content: &[u8], path: &str, limit: &str) {
        let why = judged(spec, content).unwrap();
        assert!(why.starts_with(path) && why.contains(limit), "{why}");
    }

    #[test]
    fn a_value_that_no_variable_can_have_is_refused_by_its_path() {
        assert_eq!(judged(&variables(3), b"\xff\xfe bytes that are no text"), None);
        refused(&variables(1), b"a\0b", "spec.env[0].valueFrom", "NUL");
        refused(&variables(1), &bytes(700 << 10), "spec.env[0].valueFrom", "131070");
        assert_eq!(judged(&variables(1), &bytes(131_066)), None);
        refused(&variables(1), &bytes(131_067), "spec.env[0].valueFrom", "131070");
        let long = "ä".repeat(65_536);
        refused(
            &json!({"env": [{"name": "A", "value": long}]}),
            b"",
            "spec.env[0].value",
            "131070",
        );
    }

    #[test]
    fn an_environment_is_bounded_in_sum_and_with_what_goes_beside_it() {
        assert_eq!(judged(&variables(8), &bytes(65_532)), None);
        refused(&variables(8), &bytes(65_533), "spec.env", "524288");
        let mut spec = variables(8);
        spec["stdin"] = "x".repeat(400_000).into();
        refused(&spec, &bytes(65_000), "spec.env", "1044480");
    }

    #[test]
    fn secret_files_are_bounded_in_sum_and_in_number() {
        let files = |count| secret_files((0..count).map(|n| format!("f{n}")));
        assert_eq!(judged(&files(16), &bytes(1 << 20)), None);
        refused(&files(18), &bytes(1_000_000), "spec.files[16]", "16777216");
        // A file of one byte takes a block.
        assert_eq!(judged(&files(256), &bytes(65_536)), None);
        refused(&files(256), &bytes(65_537), "spec.files[240]", "16777216");
        let deep = |depth: usize| {
            secret_files((0..256).map(move |n| format!("d{n}/{}f", "a/".repeat(depth))))
        };
        assert_eq!(judged(&deep(13), b""), None);
        refused(&deep(14), b"", "spec.files[255]", "4096");
    }
}
