//! Goldens: captures and self-tests run on the build lane, file work on threads of the runtime.

use std::sync::Arc;

use agentvm_core::names::{DomainName, GoldenKey};
use virt::connect::Connect;

use crate::libvirt::golden::{capture, template};
use crate::libvirt::handle::{Libvirt, blocking};
use crate::libvirt::host::state::Host;
use crate::libvirt::reset::self_test;
use crate::libvirt::store::goldens;
use crate::{Golden, GoldenApi, HvError, TemplateSpec, TierReport};

#[async_trait::async_trait]
impl GoldenApi for Libvirt {
    async fn boot_template(&self, spec: &TemplateSpec) -> Result<(), HvError> {
        let (spec, within) = (spec.clone(), self.host.config.start_timeout);
        self.build("boot a template", within, move |host, conn| template::boot(host, conn, &spec))
            .await
    }

    async fn capture(&self, template: &DomainName, guest: &str) -> Result<Golden, HvError> {
        let (name, guest, within) =
            (template.clone(), guest.to_owned(), self.host.config.capture_timeout);
        let caches = Arc::clone(&self.caches);
        self.build("capture a golden", within, move |host, conn| {
            capture::capture(host, &caches, conn, &name, &guest)
        })
        .await
    }

    async fn tiers(&self, golden: &GoldenKey) -> Result<TierReport, HvError> {
        let (key, within) = (golden.clone(), self.host.config.capture_timeout);
        let caches = Arc::clone(&self.caches);
        let job = move |host: &Host, conn: &Connect| self_test::get(host, &caches, conn, &key);
        self.build("test the ways to reset", within, job).await
    }

    async fn goldens(&self) -> Result<Vec<Golden>, HvError> {
        let host = Arc::clone(&self.host);
        blocking("list the goldens", move || Ok(goldens::list(&host.folder))).await
    }

    async fn remove_golden(&self, key: &GoldenKey) -> Result<(), HvError> {
        let (host, key) = (Arc::clone(&self.host), key.clone());
        let caches = Arc::clone(&self.caches);
        blocking("remove a golden", move || {
            caches.forget(&key);
            goldens::remove(&host.folder, &key)
        })
        .await
    }
}
