//! From an object to a run that can be carried out: parsed once, so that nothing later can be wrong
//! about it.

use agentvm_crds::{AgentRunSpec, AgentRunStatus, DesiredState, MAX_SPEC_BYTES, RunAs};

use super::{
    env::{EnvItem, env},
    files::{FileItem, files},
    open_attempt,
    program::{Program, program},
};
use crate::defaults::Defaults;
use crate::globs;
use crate::invalid_spec::InvalidSpec;

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
    pub suspended: bool,
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
    let files = files(&spec.files, program.script.as_ref().map(|(name, _)| *name))?;
    Ok(ValidRun {
        pool: spec.pool_ref.name.clone(),
        program,
        run_as: spec.run_as,
        env: env(&spec.env)?,
        files,
        stdin: spec.stdin.clone(),
        timeout_seconds: timeout(spec.timeout_seconds, defaults, pool_max)?,
        queue_timeout_seconds: at_least("spec.queueTimeoutSeconds", spec.queue_timeout_seconds, 1)?,
        backoff_limit: at_least("spec.backoffLimit", spec.backoff_limit, 0)?,
        priority: spec.priority,
        cancelled: spec.desired_state == DesiredState::Cancelled,
        suspended: spec.suspend,
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

#[cfg(test)]
mod tests {
    use crate::names::DomainName;
    use agentvm_types::{NodeName, Nonce};
    use jiff::Timestamp;

    use super::*;
    use crate::{
        run::{Claim, Content, EnvValue, KeyOf, claimed},
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
            (json!({"env": [{"name": ""}]}), "spec.env[0].name"),
            (json!({"env": [{"name": "Ä"}]}), "spec.env[0].name"),
            (json!({"env": [{"name": "A\tB"}]}), "spec.env[0].name"),
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
            (
                json!({"command": null, "code": {"language": "Bash", "source": "true"},
                    "files": [{"path": "main.sh", "content": ""}]}),
                "spec.files[0].path",
            ),
            (
                json!({"command": null, "code": {"language": "JavaScript", "source": "1"},
                    "files": [{"path": "main.js/x", "content": ""}]}),
                "spec.files[0].path",
            ),
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
        let node_id = agentvm_types::NodeId::new("id");
        let claim = Claim { node, node_id, vm, nonce: Nonce::from_bytes([0; 16]), reset: None };
        let decided = Decided { generation: Some(1), now: Timestamp::UNIX_EPOCH };
        let claimed = claimed(&AgentRunStatus::default(), &claim, decided);
        assert_eq!(allowed_seconds(&asks, None, Some(60)), Some(60));
        assert_eq!(allowed_seconds(&asks, Some(&claimed), Some(60)), Some(600));
        assert_eq!(allowed_seconds(&asks, Some(&claimed), Some(900)), Some(900));
        assert_eq!(allowed_seconds(&asks, Some(&claimed), None), None);
    }

    #[test]
    fn a_variable_has_any_name_that_kubernetes_takes() {
        for name in (' '..='~').filter(|c| *c != '=').map(String::from).chain([
            "1A".to_owned(),
            "my.app-name".to_owned(),
            "A B".to_owned(),
            "x".repeat(256),
        ]) {
            let spec = spec(serde_json::json!({"env": [{"name": name}]}));
            let run = validate(&spec, &Defaults::default(), None).unwrap();
            assert_eq!(run.env[0].name, name);
        }
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
        assert_eq!(run.program.argv, ["python3", "/workspace/work/main.py"]);
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
