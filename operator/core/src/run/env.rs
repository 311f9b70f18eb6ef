//! The environment variables of a run, and the keys of Secrets and ConfigMaps that it refers to.

use std::collections::BTreeSet;

use agentvm_crds::{EnvVar, KeyRef, ValueSource};

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

/// Valid names, each once.
pub(super) fn env(vars: &[EnvVar]) -> Result<Vec<EnvItem>, InvalidSpec> {
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

/// The names that Kubernetes takes.
fn check_env_name(name: &str) -> Result<(), String> {
    let printable = |c: char| matches!(c, ' '..='~') && c != '=';
    if (1..=MAX_ENV_NAME).contains(&name.len()) && name.chars().all(printable) {
        return Ok(());
    }
    Err(format!(
        "must be printable ASCII characters other than `=`, 1 to {MAX_ENV_NAME}, is {name:?}"
    ))
}

/// The key that a source names.
pub(super) fn key_of(source: &ValueSource, at: &str) -> Result<KeyOf, InvalidSpec> {
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
