//! From an object to a run that can be carried out: parsed once, so that nothing later can be wrong
//! about it.

use std::collections::BTreeSet;

use agentvm_crds::{
    AgentRunSpec, AgentRunStatus, DesiredState, EnvVar, InputFileSpec, KeyRef, MAX_SPEC_BYTES,
    Place, RunAs, ValueSource,
};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    open_attempt,
    paths::check_relative_path,
    program::{CODE_FOLDER, Program, program},
};
use crate::defaults::Defaults;
use crate::globs;
use crate::invalid_spec::InvalidSpec;

/// The longest name of an environment variable, in bytes.
const MAX_ENV_NAME: usize = 256;

/// A key of a Secret or ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOf {
    Secret { name: String, key: String },
    ConfigMap { name: String, key: String },
}

/// The value of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvValue {
    Literal(String),
    From(KeyOf),
}

/// An environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvItem {
    pub name: String,
    pub value: EnvValue,
}

/// The content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Bytes(Vec<u8>),
    From(KeyOf),
}

/// A file that the run finds in the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileItem {
    pub path: String,
    pub mode: u32,
    pub place: Place,
    pub content: Content,
}

/// A run that can be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidRun {
    pub pool: String,
    pub program: Program,
    pub run_as: RunAs,
    pub env: Vec<EnvItem>,
    pub files: Vec<FileItem>,
    pub stdin: Option<String>,
    pub timeout_seconds: u32,
    pub queue_timeout_seconds: u32,
    pub backoff_limit: u32,
    pub priority: i32,
    pub cancelled: bool,
    pub include: Vec<String>,
    pub max_bytes: u64,
}

/// Checks the object alone, and against the pool's own limit.
pub fn validate(
    spec: &AgentRunSpec,
    defaults: &Defaults,
    pool_max: Option<u32>,
) -> Result<ValidRun, InvalidSpec> {
    let encoded = serde_json::to_vec(spec).map_or(usize::MAX, |text| text.len());
    if encoded > MAX_SPEC_BYTES {
        return Err(InvalidSpec::new(
            "spec",
            format!("is {encoded} bytes encoded; at most {MAX_SPEC_BYTES} are allowed"),
        ));
    }
    let program = program(spec)?;
    Ok(ValidRun {
        pool: spec.pool_ref.name.clone(),
        program,
        run_as: spec.run_as,
        env: env(&spec.env)?,
        files: files(&spec.files)?,
        stdin: spec.stdin.clone(),
        timeout_seconds: timeout(spec.timeout_seconds, defaults, pool_max)?,
        queue_timeout_seconds: at_least("spec.queueTimeoutSeconds", spec.queue_timeout_seconds, 1)?,
        backoff_limit: at_least("spec.backoffLimit", spec.backoff_limit, 0)?,
        priority: spec.priority,
        cancelled: spec.desired_state == DesiredState::Cancelled,
        include: include(&spec.output.include)?,
        max_bytes: u64::try_from(spec.output.max_bytes)
            .map_err(|_| InvalidSpec::new("spec.output.maxBytes", "must not be negative"))?,
    })
}

/// The longest timeout that the pool of a run allows.
///
/// A run that was claimed is not judged again when its pool changes: it keeps the timeout that it
/// asked for.
pub fn allowed_seconds(
    spec: &AgentRunSpec,
    status: Option<&AgentRunStatus>,
    pool_max: Option<u32>,
) -> Option<u32> {
    let asked = spec.timeout_seconds.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(0);
    let claimed = open_attempt(status).is_some();
    pool_max.map(|max| if claimed { max.max(asked) } else { max })
}

fn timeout(
    asked: Option<i32>,
    defaults: &Defaults,
    pool_max: Option<u32>,
) -> Result<u32, InvalidSpec> {
    let limit = pool_max.unwrap_or(defaults.max_run_seconds);
    // The default gives way to a pool that allows less; an explicit value does not.
    let Some(asked) = asked else { return Ok(defaults.run_seconds.min(limit)) };
    let seconds = at_least("spec.timeoutSeconds", asked, 1)?;
    if pool_max.is_some() && seconds > limit {
        let problem = format!(
            "is {seconds}; the pool allows at most {limit} (spec.maxRunSeconds of the pool)"
        );
        return Err(InvalidSpec::new("spec.timeoutSeconds", problem));
    }
    Ok(seconds)
}

fn at_least(path: &str, value: i32, least: u32) -> Result<u32, InvalidSpec> {
    u32::try_from(value)
        .ok()
        .filter(|v| *v >= least)
        .ok_or_else(|| InvalidSpec::new(path, format!("must be at least {least}, is {value}")))
}

fn include(patterns: &[String]) -> Result<Vec<String>, InvalidSpec> {
    globs::check(patterns).map_err(|error| {
        let item = error.index.map_or_else(String::new, |index| format!("[{index}]"));
        InvalidSpec::new(format!("spec.output.include{item}"), error.problem)
    })?;
    Ok(patterns.to_vec())
}

fn env(vars: &[EnvVar]) -> Result<Vec<EnvItem>, InvalidSpec> {
    let mut seen = BTreeSet::new();
    vars.iter()
        .enumerate()
        .map(|(index, var)| {
            let at = format!("spec.env[{index}]");
            check_env_name(&var.name)
                .map_err(|problem| InvalidSpec::new(format!("{at}.name"), problem))?;
            if !seen.insert(&var.name) {
                return Err(InvalidSpec::new(
                    format!("{at}.name"),
                    format!("{} is there twice", var.name),
                ));
            }
            let value = match (&var.value, &var.value_from) {
                (Some(text), None) if text.contains('\0') => {
                    return Err(InvalidSpec::new(format!("{at}.value"), "must not contain NUL"));
                }
                (value, None) => EnvValue::Literal(value.clone().unwrap_or_default()),
                (None, Some(source)) => EnvValue::From(key_of(source, &format!("{at}.valueFrom"))?),
                (Some(_), Some(_)) => {
                    return Err(InvalidSpec::new(
                        at,
                        "at most one of value and valueFrom may be set",
                    ));
                }
            };
            Ok(EnvItem { name: var.name.clone(), value })
        })
        .collect()
}

fn check_env_name(name: &str) -> Result<(), String> {
    let mut chars = name.chars();
    let begins_well = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if begins_well
        && name.len() <= MAX_ENV_NAME
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    {
        return Ok(());
    }
    Err(format!(
        "must be letters, digits and `_`, not beginning with a digit, at most {MAX_ENV_NAME} \
            characters, is {name:?}"
    ))
}

fn files(files: &[InputFileSpec]) -> Result<Vec<FileItem>, InvalidSpec> {
    let mut seen = BTreeSet::new();
    let items: Vec<FileItem> = files
        .iter()
        .enumerate()
        .map(|(index, file)| self::file(index, file))
        .collect::<Result<_, _>>()?;
    for (index, item) in items.iter().enumerate() {
        let place = item.place == Place::Secrets;
        if !seen.insert((place, item.path.as_str())) {
            return Err(InvalidSpec::new(
                format!("spec.files[{index}].path"),
                format!("{:?} is there twice", item.path),
            ));
        }
    }
    // A file can't be the folder of another one.
    for (index, item) in items.iter().enumerate() {
        let mut folder = item.path.as_str();
        while let Some((parent, _)) = folder.rsplit_once('/') {
            if seen.contains(&(item.place == Place::Secrets, parent)) {
                let problem =
                    format!("{parent:?} is a file already, so {:?} can't be below it", item.path);
                return Err(InvalidSpec::new(format!("spec.files[{index}].path"), problem));
            }
            folder = parent;
        }
    }
    Ok(items)
}

fn file(index: usize, file: &InputFileSpec) -> Result<FileItem, InvalidSpec> {
    let at = |field: &str| format!("spec.files[{index}].{field}");
    check_relative_path(&file.path).map_err(|problem| InvalidSpec::new(at("path"), problem))?;
    if file.place == Place::Input && file.path.split('/').next() == Some(CODE_FOLDER) {
        return Err(InvalidSpec::new(
            at("path"),
            format!("{CODE_FOLDER} is where agentvm puts `code`; take another folder"),
        ));
    }
    let mode = u32::try_from(file.mode).ok().filter(|mode| *mode <= 0o777).ok_or_else(|| {
        InvalidSpec::new(
            at("mode"),
            format!("must be 0 to 0777 (511), is {} (0{:o})", file.mode, file.mode),
        )
    })?;
    let content = match (&file.content, &file.content_base64, &file.content_from) {
        (Some(text), None, None) => Content::Bytes(text.clone().into_bytes()),
        (None, Some(text), None) => {
            Content::Bytes(STANDARD.decode(text.split_whitespace().collect::<String>()).map_err(
                |error| InvalidSpec::new(at("contentBase64"), format!("isn't base64: {error}")),
            )?)
        }
        (None, None, Some(source)) => Content::From(key_of(source, &at("contentFrom"))?),
        _ => {
            let problem = "exactly one of content, contentBase64 and contentFrom must be set";
            return Err(InvalidSpec::new(format!("spec.files[{index}]"), problem));
        }
    };
    if matches!(content, Content::From(KeyOf::Secret { .. })) && file.place != Place::Secrets {
        return Err(InvalidSpec::new(
            at("place"),
            "must be Secrets for a Secret: it may not touch the host's disk",
        ));
    }
    Ok(FileItem { path: file.path.clone(), mode, place: file.place, content })
}

fn key_of(source: &ValueSource, at: &str) -> Result<KeyOf, InvalidSpec> {
    let parts = |key: &KeyRef| (key.name.clone(), key.key.clone());
    match (&source.secret_key_ref, &source.config_map_key_ref) {
        (Some(key), None) => {
            let (name, key) = parts(key);
            Ok(KeyOf::Secret { name, key })
        }
        (None, Some(key)) => {
            let (name, key) = parts(key);
            Ok(KeyOf::ConfigMap { name, key })
        }
        _ => {
            Err(InvalidSpec::new(at, "exactly one of secretKeyRef and configMapKeyRef must be set"))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::names::DomainName;
    use agentvm_types::{NodeName, Nonce};
    use jiff::Timestamp;

    use super::*;
    use crate::{
        run::{Claim, claimed},
        status::Decided,
    };

    fn spec(extra: serde_json::Value) -> AgentRunSpec {
        let mut base = serde_json::json!({"command": ["true"]});
        let (Some(base_map), serde_json::Value::Object(extra)) = (base.as_object_mut(), extra)
        else {
            unreachable!()
        };
        for (key, value) in extra {
            if value.is_null() {
                base_map.remove(&key)
            } else {
                base_map.insert(key, value)
            };
        }
        serde_json::from_value(base).unwrap()
    }

    fn refused(extra: serde_json::Value) -> String {
        validate(&spec(extra), &Defaults::default(), Some(600)).unwrap_err().path
    }

    #[test]
    fn mistakes_are_named_by_their_path() {
        use serde_json::json;
        let cases = [
            (json!({"code": {"language": "Bash", "source": "x"}}), "spec"),
            (json!({"command": null}), "spec"),
            (json!({"command": []}), "spec.command"),
            (json!({"command": ["a", "b\u{0}"]}), "spec.command[1]"),
            (json!({"timeoutSeconds": 0}), "spec.timeoutSeconds"),
            (json!({"timeoutSeconds": 601}), "spec.timeoutSeconds"),
            (json!({"timeoutSeconds": -5}), "spec.timeoutSeconds"),
            (json!({"queueTimeoutSeconds": 0}), "spec.queueTimeoutSeconds"),
            (json!({"backoffLimit": -1}), "spec.backoffLimit"),
            (json!({"output": {"maxBytes": -1}}), "spec.output.maxBytes"),
            (json!({"output": {"include": ["*", "a[b"]}}), "spec.output.include[1]"),
            (json!({"output": {"include": vec!["*"; 65]}}), "spec.output.include"),
            (json!({"env": [{"name": "1A"}]}), "spec.env[0].name"),
            (json!({"env": [{"name": "A=B"}]}), "spec.env[0].name"),
            (json!({"env": [{"name": "A"}, {"name": "A"}]}), "spec.env[1].name"),
            (json!({"env": [{"name": "A", "value": "\u{0}"}]}), "spec.env[0].value"),
            (json!({"env": [{"name": "A", "valueFrom": {}}]}), "spec.env[0].valueFrom"),
            (json!({"files": [{"path": "/a", "content": ""}]}), "spec.files[0].path"),
            (json!({"files": [{"path": "a/../b", "content": ""}]}), "spec.files[0].path"),
            (
                json!({"files": [{"path": "a", "content": ""}, {"path": "a", "content": ""}]}),
                "spec.files[1].path",
            ),
            (
                json!({"files": [{"path": "a", "content": ""}, {"path": "a/b/c", "content": ""}]}),
                "spec.files[1].path",
            ),
            (json!({"files": [{"path": ".agentvm/x", "content": ""}]}), "spec.files[0].path"),
            (json!({"files": [{"path": "a"}]}), "spec.files[0]"),
            (json!({"files": [{"path": "a", "content": "", "mode": 512}]}), "spec.files[0].mode"),
            (
                json!({"files": [{"path": "a", "contentBase64": "%"}]}),
                "spec.files[0].contentBase64",
            ),
            (
                json!({"files": [{"path": "a", "contentFrom": {"secretKeyRef": {"name": "s",
                    "key": "k"}}}]}),
                "spec.files[0].place",
            ),
            (json!({"stdin": "x".repeat(MAX_SPEC_BYTES)}), "spec"),
        ];
        for (extra, path) in cases {
            let text = extra.to_string();
            assert_eq!(refused(extra), path, "{}", &text[..text.len().min(200)]);
        }
    }

    #[test]
    fn a_claimed_run_keeps_the_timeout_that_it_asked_for() {
        let asks = spec(serde_json::json!({"timeoutSeconds": 600}));
        let (node, vm) = (NodeName::new("n"), DomainName::from_recorded("m"));
        let claim = Claim { node, vm, nonce: Nonce::from_bytes([0; 16]), reset: None };
        let decided = Decided { generation: Some(1), now: Timestamp::UNIX_EPOCH };
        let claimed = claimed(&AgentRunStatus::default(), &claim, decided);
        assert_eq!(allowed_seconds(&asks, None, Some(60)), Some(60));
        assert_eq!(allowed_seconds(&asks, Some(&claimed), Some(60)), Some(600));
        assert_eq!(allowed_seconds(&asks, Some(&claimed), Some(900)), Some(900));
        assert_eq!(allowed_seconds(&asks, Some(&claimed), None), None);
    }

    #[test]
    fn what_is_right_is_kept_as_it_was_said() {
        let run = validate(
            &spec(serde_json::json!({
                "command": null,
                "code": {"language": "Python", "source": "print(1)"},
                "env": [{"name": "A"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s",
                    "key": "k"}}}],
                "files": [{"path": "a/b", "contentBase64": "aGk=\n", "mode": 0o755}],
            })),
            &Defaults::default(),
            Some(60),
        )
        .unwrap();
        assert_eq!(run.program.argv, ["python3", "/workspace/input/.agentvm/main.py"]);
        assert_eq!(run.env[0].value, EnvValue::Literal(String::new()));
        assert_eq!(
            run.env[1].value,
            EnvValue::From(KeyOf::Secret { name: "s".into(), key: "k".into() })
        );
        assert_eq!(
            (run.files[0].mode, &run.files[0].content),
            (0o755, &Content::Bytes(b"hi".to_vec()))
        );
        assert_eq!(run.timeout_seconds, 60, "the default gives way to a pool that allows less");
    }
}
