//! The host: facts, health and sweep, as jobs on a lane.

use std::sync::Arc;

use crate::libvirt::connection::domain;
use crate::libvirt::handle::{Libvirt, blocking};
use crate::libvirt::machine::sweep;
use crate::libvirt::store::disk;
use crate::{DiskUse, HostApi, HostFacts, HvError};

#[async_trait::async_trait]
impl HostApi for Libvirt {
    async fn facts(&self) -> Result<HostFacts, HvError> {
        self.build("look at the host", self.host.config.start_timeout, |host, conn| {
            host.facts.get(conn)
        })
        .await
    }

    async fn health(&self) -> Result<(), HvError> {
        self.claim("ask libvirt for its health", |_, conn| {
            conn.lib_version().map(drop).map_err(domain::refused("ask libvirt for its version"))
        })
        .await
    }

    async fn sweep(&self) -> Result<Vec<String>, HvError> {
        self.build("sweep", self.host.config.capture_timeout, sweep::sweep).await
    }

    async fn disk(&self) -> Result<DiskUse, HvError> {
        let host = Arc::clone(&self.host);
        blocking("look at the disk", move || disk::used(&host.folder)).await
    }
}
