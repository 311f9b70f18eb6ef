//! Goldens: captures and self-tests run on the build lane, file work on threads of the runtime.

use std::sync::Arc;

use agentvm_core::names::{DomainName, GoldenKey};

use crate::libvirt::golden::{capture, template};
use crate::libvirt::handle::{Libvirt, blocking};
use crate::libvirt::reset::tiers;
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
        self.build("capture a golden", within, move |host, conn| {
            capture::capture(host, conn, &name, &guest)
        })
        .await
    }

    async fn tiers(&self, golden: &GoldenKey) -> Result<TierReport, HvError> {
        let (key, within) = (golden.clone(), self.host.config.capture_timeout);
        self.build("test the ways to reset", within, move |host, conn| tiers::get(host, conn, &key))
            .await
    }

    async fn goldens(&self) -> Result<Vec<Golden>, HvError> {
        let host = Arc::clone(&self.host);
        blocking("list the goldens", move || Ok(goldens::list(&host))).await
    }

    async fn remove_golden(&self, key: &GoldenKey) -> Result<(), HvError> {
        let (host, key) = (Arc::clone(&self.host), key.clone());
        blocking("remove a golden", move || goldens::remove(&host, &key)).await
    }
}
