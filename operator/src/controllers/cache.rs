//! The caches' filling: a controller for each kind, and the moment when all of them have seen
//! everything there is.
//!
//! kube's own `Store::wait_until_ready` wakes one waiter only, and the controller itself waits
//! there. So the first end of a list is noted here, on its way through.

use std::fmt::Debug;

use futures::StreamExt;
use kube::{
    Api, Client, Resource,
    runtime::{
        Controller, WatchStreamExt,
        controller::Config as ControllerConfig,
        reflector::{self, reflector},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::Guarded;

/// Reconciles of one kind that kube starts at the same time. There are more than turns, because a
/// reconcile without a turn ends at once.
const CONCURRENCY: u16 = 32;

/// The number of full caches.
#[derive(Clone, Debug)]
pub struct Filled(watch::Sender<usize>);

impl Filled {
    pub fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// Returns when this many caches have seen everything there is.
    pub async fn all(&self, caches: usize) {
        // It can't be closed: this end is a sender too.
        let _ = self.0.subscribe().wait_for(|full| *full >= caches).await;
    }

    /// A controller whose cache counts as full after its first list. `heard` gets each event of the
    /// watch, after the cache and before the controller.
    pub fn controller<K>(
        &self,
        client: &Client,
        mut heard: impl FnMut(&watcher::Event<Guarded<K>>) + Send + 'static,
    ) -> Controller<Guarded<K>>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (reader, writer) = reflector::store();
        let (full, mut told) = (self.0.clone(), false);
        // An API server that is behind must not answer: it would lack the latest runs, and bring
        // back claims of the past.
        let events = watcher(Api::all(client.clone()), watcher::Config::default());
        let objects = reflector(writer, events)
            .inspect(move |event| {
                if let Ok(event) = event {
                    heard(event);
                }
                if !told && matches!(event, Ok(watcher::Event::InitDone)) {
                    told = true;
                    full.send_modify(|full| *full += 1);
                }
            })
            .applied_objects();
        Controller::for_stream(objects, reader)
            .with_config(ControllerConfig::default().concurrency(CONCURRENCY))
    }
}
