//! Goldens of the fake: the content of a template's `work`, and its agent's inspection.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use agentvm_core::names::{DomainName, GoldenKey, short_hash};
use agentvm_types::Nonce;

use super::store::{HALF, Kept, Store};
use super::{FakeHypervisor, Op};
use crate::files::{io, names_in, read_json, remove_tree, write_json};
use crate::{CaptureStep, Golden, GoldenApi, HvError, Resources, Step, TemplateSpec, TierReport};

#[async_trait::async_trait]
impl GoldenApi for FakeHypervisor {
    async fn boot_template(&self, spec: &TemplateSpec) -> Result<(), HvError> {
        let spec = spec.clone();
        self.call(Op::BootTemplate, move |store| store.boot_template(&spec)).await
    }

    async fn capture(&self, template: &DomainName, guest: &str) -> Result<Golden, HvError> {
        let (template, guest) = (template.clone(), guest.to_owned());
        self.call(Op::Capture, move |store| store.capture(&template, &guest)).await
    }

    async fn tiers(&self, golden: &GoldenKey) -> Result<TierReport, HvError> {
        let golden = golden.clone();
        let tested = move |store: &Store| {
            let there = store.golden(&golden).join("golden.json").exists();
            there.then(|| store.knobs.tiers()).ok_or(HvError::NoSuchGolden(golden))
        };
        self.call(Op::Tiers, tested).await
    }

    async fn goldens(&self) -> Result<Vec<Golden>, HvError> {
        self.call(Op::Goldens, |store| Ok(store.goldens())).await
    }

    async fn remove_golden(&self, key: &GoldenKey) -> Result<(), HvError> {
        let key = key.clone();
        self.call(Op::RemoveGolden, move |store| store.remove_golden(&key)).await
    }
}

impl Store {
    pub fn boot_template(&self, spec: &TemplateSpec) -> Result<(), HvError> {
        let name = &spec.record.name;
        let kept = Kept { record: spec.record.clone(), resources: Some(spec.resources) };
        self.begin(&kept, None, None)?;
        self.set_paused(name, false)
    }

    pub fn capture(&self, template: &DomainName, guest: &str) -> Result<Golden, HvError> {
        let kept = self.kept(template).ok_or_else(|| HvError::NoSuchMachine(template.clone()))?;
        let before = |step| self.step(template, Step::Capture(step));
        before(CaptureStep::Pause)?;
        self.set_paused(template, true)?;
        let golden = self.describe(template, kept, guest);
        let half = self.dir.join("goldens").join(format!("{HALF}{}", golden.key));
        before(CaptureStep::Overlay)?;
        remove_tree(&half)?;
        fs::create_dir_all(&half).map_err(io("make", &half))?;
        before(CaptureStep::SaveSnapshot)?;
        before(CaptureStep::SaveState)?;
        before(CaptureStep::Quit)?;
        self.kill(template)?;
        before(CaptureStep::Seal)?;
        let work = self.share(template).join("work");
        fs::rename(&work, half.join("work")).map_err(io("keep", &work))?;
        before(CaptureStep::Describe)?;
        write_json(&half.join("golden.json"), &golden)?;
        before(CaptureStep::Publish)?;
        let target = self.golden(&golden.key);
        remove_tree(&target)?;
        fs::rename(&half, &target).map_err(io("finish", &target))?;
        self.destroy(template)?;
        Ok(golden)
    }

    fn describe(&self, template: &DomainName, kept: Kept, guest: &str) -> Golden {
        let started = fs::metadata(self.machine(template).join("record.json"))
            .and_then(|m| m.modified())
            .ok();
        let otherwise = Resources { vcpus: 1, memory_mib: 1024, disk_gib: 10, cpu_shares: 1024 };
        Golden {
            layout: kept.record.layout(),
            digest: format!("sha256:{}", short_hash(&[kept.record.golden.as_str()], 64)),
            key: kept.record.golden,
            resources: kept.resources.unwrap_or(otherwise),
            memory_bytes: 0,
            captured: now(),
            boot_millis: started
                .and_then(|t| t.elapsed().ok())
                .map_or(0, |t| t.as_millis().try_into().unwrap_or(0)),
            namespace: kept.record.namespace,
            owner: kept.record.owner,
            owner_uid: kept.record.owner_uid,
            guest: guest.to_owned(),
        }
    }

    pub fn goldens(&self) -> Vec<Golden> {
        let dir = self.dir.join("goldens");
        let whole = names_in(&dir).into_iter().filter(|name| !name.starts_with(HALF));
        whole.filter_map(|name| read_json(&dir.join(name).join("golden.json"))).collect()
    }

    pub fn remove_golden(&self, key: &GoldenKey) -> Result<(), HvError> {
        remove_tree(&self.golden(key))
    }

    /// The nonce that an agent of this golden has in its memory. A real one has it from its
    /// template; these are new processes, so they are told.
    pub fn golden_nonce(&self, key: &GoldenKey) -> Option<Nonce> {
        let golden: Golden = read_json(&self.golden(key).join("golden.json"))?;
        let said: serde_json::Value = serde_json::from_str(&golden.guest).ok()?;
        said.get("golden")?.as_str()?.parse().ok()
    }
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |t| t.as_secs().try_into().unwrap_or(i64::MAX))
}
