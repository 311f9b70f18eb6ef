//! Talks to etcd through its JSON gateway, with the API server's certificate. There, numbers of 64
//! bits are strings.

use kube::Client;
use kube::config::Config as ClientConfig;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::chores::Looked;

/// The name of the alarm of a store that reached its quota.
const NO_SPACE: &str = "NOSPACE";

/// The store gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("no client could be made for the store")]
    Client(#[source] kube::Error),
    #[error("the store did not {what}")]
    Asked {
        what: &'static str,
        #[source]
        why: kube::Error,
    },
}

pub struct EtcdClient(Client);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    header: Header,
    #[serde(default, deserialize_with = "number")]
    db_size: u64,
    #[serde(default, deserialize_with = "number")]
    db_size_in_use: u64,
}

#[derive(Deserialize)]
struct Header {
    #[serde(default, deserialize_with = "number")]
    revision: u64,
}

#[derive(Deserialize)]
struct Alarms {
    #[serde(default)]
    alarms: Vec<Alarm>,
}

#[derive(Deserialize)]
struct Alarm {
    #[serde(rename = "memberID", default)]
    member: String,
    #[serde(default)]
    alarm: String,
}

impl EtcdClient {
    pub fn new(etcd: ClientConfig) -> Result<Self, StoreError> {
        Client::try_from(etcd).map(Self).map_err(StoreError::Client)
    }

    pub async fn look(&self) -> Result<Looked, StoreError> {
        let status: Status = self.ask("say its size", "maintenance/status", json!({})).await?;
        let question = json!({"action": "GET"});
        let alarms: Alarms = self.ask("list its alarms", "maintenance/alarm", question).await?;
        let no_space = alarms.alarms.into_iter().find(|alarm| alarm.alarm == NO_SPACE);
        Ok(Looked {
            file_bytes: status.db_size,
            used_bytes: status.db_size_in_use,
            revision: status.header.revision,
            alarm: no_space.is_some(),
            member: no_space.map(|alarm| alarm.member).unwrap_or_default(),
        })
    }

    /// Forgets the revisions before this one, and returns when they are gone. A revision that was
    /// compacted before is no error: the API server compacts too.
    pub async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        let order = json!({"revision": revision.to_string(), "physical": true});
        let done: Result<Value, _> = self.ask("compact itself", "kv/compaction", order).await;
        match done {
            Err(StoreError::Asked { why, .. }) if why.to_string().contains("compacted") => Ok(()),
            done => done.map(drop),
        }
    }

    pub async fn defragment(&self) -> Result<(), StoreError> {
        self.ask::<Value>("defragment itself", "maintenance/defragment", json!({})).await.map(drop)
    }

    pub async fn clear_alarm(&self, looked: &Looked) -> Result<(), StoreError> {
        let order = json!({"action": "DEACTIVATE", "memberID": looked.member, "alarm": NO_SPACE});
        self.ask::<Value>("clear its alarm", "maintenance/alarm", order).await.map(drop)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        what: &'static str,
        path: &str,
        body: Value,
    ) -> Result<T, StoreError> {
        let failed = |why| StoreError::Asked { what, why };
        let request = http::Request::post(format!("/v3/{path}"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
            .map_err(|why| failed(kube::Error::HttpError(why)))?;
        self.0.request(request).await.map_err(failed)
    }
}

fn number<'de, D: Deserializer<'de>>(value: D) -> Result<u64, D::Error> {
    String::deserialize(value)?.parse().map_err(serde::de::Error::custom)
}
