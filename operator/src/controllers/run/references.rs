//! The content that a run refers to: Secrets and ConfigMaps. It is read when it is needed, and
//! dropped with the description of the attempt.

use std::collections::HashMap;

use agentvm_core::run::{Content, EnvValue, KeyOf, MissingRef, ValidRun, check_content};
use agentvm_crds::AcceptedReason;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};

use crate::controllers::error::Error;

/// The keys of one object with their bytes.
type Data = HashMap<String, Vec<u8>>;

/// The bytes behind every key that a run refers to.
#[derive(Clone, Default)]
pub struct Resolved(HashMap<(bool, String, String), Vec<u8>>);

impl std::fmt::Debug for Resolved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resolved({} keys)", self.0.len())
    }
}

impl Resolved {
    pub fn get(&self, key: &KeyOf) -> &[u8] {
        self.0.get(&index(key)).map(Vec::as_slice).unwrap_or_default()
    }
}

fn index(key: &KeyOf) -> (bool, String, String) {
    match key {
        KeyOf::Secret { name, key } => (true, name.clone(), key.clone()),
        KeyOf::ConfigMap { name, key } => (false, name.clone(), key.clone()),
    }
}

/// Every reference with the path of the field that has it.
fn references(run: &ValidRun) -> Vec<(String, &KeyOf)> {
    let env = run.env.iter().enumerate().filter_map(|(n, item)| match &item.value {
        EnvValue::From(key) => Some((format!("spec.env[{n}].valueFrom"), key)),
        EnvValue::Literal(_) => None,
    });
    let files = run.files.iter().enumerate().filter_map(|(n, item)| match &item.content {
        Content::From(key) => Some((format!("spec.files[{n}].contentFrom"), key)),
        Content::Bytes(_) => None,
    });
    env.chain(files).collect()
}

/// Reads all of them, and judges the content of the run. A missing object or key is something to
/// wait for, not an error. Content that no machine takes has the reason `InvalidSpec`.
pub async fn resolve(
    client: &Client,
    namespace: &str,
    run: &ValidRun,
) -> Result<Result<Resolved, MissingRef>, Error> {
    let mut resolved = Resolved::default();
    let mut objects: HashMap<(bool, String), Option<Data>> = HashMap::new();
    for (path, key) in references(run) {
        let (secret, name, entry) = index(key);
        let id = (secret, name.clone());
        if !objects.contains_key(&id) {
            let data = if secret {
                read_secret(client, namespace, &name).await?
            } else {
                read_config_map(client, namespace, &name).await?
            };
            objects.insert(id.clone(), data);
        }
        let object = objects.get(&id).and_then(Option::as_ref);
        let Some(bytes) = object.and_then(|data| data.get(&entry)) else {
            return Ok(Err(missing(&path, secret, &name, &entry, object.is_some())));
        };
        resolved.0.insert((secret, name, entry), bytes.clone());
    }
    let judged = check_content(run, |key| resolved.get(key)).map_err(|why| MissingRef {
        reason: AcceptedReason::InvalidSpec,
        message: why.to_string(),
    });
    Ok(judged.map(|()| resolved))
}

fn missing(path: &str, secret: bool, name: &str, key: &str, object_exists: bool) -> MissingRef {
    let (kind, reason) = if secret {
        ("Secret", AcceptedReason::SecretMissing)
    } else {
        ("ConfigMap", AcceptedReason::ConfigMapMissing)
    };
    let message = if object_exists {
        format!("{path}: {kind} {name:?} has no key {key:?}")
    } else {
        format!("{path}: there is no {kind} {name:?} in this namespace")
    };
    MissingRef { reason, message }
}

async fn read_secret(client: &Client, namespace: &str, name: &str) -> Result<Option<Data>, Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(Error::api("a Secret"))?;
    Ok(found.map(|secret| {
        secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()
    }))
}

async fn read_config_map(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<Data>, Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(Error::api("a ConfigMap"))?;
    Ok(found.map(|map| {
        let text =
            map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
        let binary =
            map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        text.chain(binary).collect()
    }))
}
