//! Results about goldens that this process computes once: the content of their disks, and the
//! self-tests of their tiers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use agentvm_core::names::GoldenKey;

use super::proof::disk::Reference;
use crate::libvirt::store::state_folder::GoldenDir;
use crate::locks::lock;
use crate::{HvError, TierReport};

/// The caches, by the key of the golden.
#[derive(Debug, Default)]
pub struct GoldenCaches {
    /// The proof compares a machine's disk with these.
    disks: Mutex<HashMap<GoldenKey, Arc<Reference>>>,
    tiers: Mutex<HashMap<GoldenKey, TierReport>>,
}

impl GoldenCaches {
    /// The content of a golden's disk. It is read once, because the files of a golden don't change.
    pub fn disk(&self, key: &GoldenKey, dir: &GoldenDir) -> Result<Arc<Reference>, HvError> {
        if let Some(known) = lock(&self.disks).get(key) {
            return Ok(Arc::clone(known));
        }
        let read = Arc::new(Reference::open(&dir.snapshot())?);
        lock(&self.disks).insert(key.clone(), Arc::clone(&read));
        Ok(read)
    }

    /// The result of a self-test that has run.
    pub fn tiers(&self, key: &GoldenKey) -> Option<TierReport> {
        lock(&self.tiers).get(key).cloned()
    }

    pub fn keep_tiers(&self, key: &GoldenKey, found: &TierReport) {
        lock(&self.tiers).insert(key.clone(), found.clone());
    }

    /// Forgets a golden that is removed or replaced: a later one of the same key is another.
    pub fn forget(&self, key: &GoldenKey) {
        lock(&self.disks).remove(key);
        lock(&self.tiers).remove(key);
    }
}
