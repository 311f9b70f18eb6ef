//! Kubernetes Events, for people. An Event that can't be written is logged and forgotten: it is
//! never the only record.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder as KubeRecorder, Reporter},
};

use agentvm_core::status::clip;
use agentvm_types::NodeName;

use crate::metrics::{Kind, Metrics, Verb};

/// Writes Events in the name of this node's operator.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "kube's recorder has none")]
pub struct Recorder {
    inner: KubeRecorder,
    metrics: Metrics,
}

impl Recorder {
    pub fn new(client: Client, node: &NodeName, metrics: Metrics) -> Self {
        let reporter =
            Reporter { controller: "agentvm".to_owned(), instance: Some(node.to_string()) };
        Self { inner: KubeRecorder::new(client, reporter), metrics }
    }

    pub async fn normal(&self, about: &ObjectReference, reason: &str, action: &str, note: &str) {
        self.write(EventType::Normal, about, reason, action, note).await;
    }

    pub async fn warning(&self, about: &ObjectReference, reason: &str, action: &str, note: &str) {
        self.write(EventType::Warning, about, reason, action, note).await;
    }

    async fn write(
        &self,
        type_: EventType,
        about: &ObjectReference,
        reason: &str,
        action: &str,
        note: &str,
    ) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(clip(note, 1000)),
            action: action.to_owned(),
            secondary: None,
        };
        // The first of its kind is created, a repetition patched: both are one write, and count as
        // the first.
        self.metrics.api_write(Kind::Event, Verb::Create);
        if let Err(why) = self.inner.publish(&event, about).await {
            let object = about.name.as_deref().unwrap_or_default();
            tracing::warn!(
                object,
                reason,
                error = &why as &dyn std::error::Error,
                "an Event could not be written"
            );
        }
    }
}
