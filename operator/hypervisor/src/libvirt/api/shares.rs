//! Shares: file work only, off the runtime.

use std::path::Path;
use std::sync::Arc;

use agentvm_core::names::DomainName;

use crate::libvirt::handle::{Libvirt, blocking};
use crate::libvirt::machine::power;
use crate::workspace::budget::{Cancel, CancelOnDrop};
use crate::workspace::collect;
use crate::{CollectSpec, Collected, HvError, InputFile, ShareApi};

#[async_trait::async_trait]
impl ShareApi for Libvirt {
    async fn put_input(&self, name: &DomainName, files: Vec<InputFile>) -> Result<(), HvError> {
        let (host, name) = (Arc::clone(&self.host), name.clone());
        blocking("put input", move || power::put_input(&host.folder, &host.users, &name, &files))
            .await
    }

    async fn collect(
        &self,
        name: &DomainName,
        spec: &CollectSpec,
        into: &Path,
    ) -> Result<Collected, HvError> {
        let (share, spec, into) = (self.share(name)?, spec.clone(), into.to_owned());
        let cancel = Cancel::default();
        let _on_drop = CancelOnDrop(cancel.clone());
        let collections = Arc::clone(&self.collections);
        let place = collections.acquire_owned().await.map_err(HvError::failed("wait"))?;
        blocking("collect output", move || {
            // The place is free when the thread is, not when the caller has gone.
            let _place = place;
            collect::collect(&share, &spec, &into, cancel)
        })
        .await
    }
}
