//! Limits of the fake: it enforces none, but keeps them so that tests can look.

use std::path::PathBuf;

use agentvm_core::names::DomainName;
use serde::{Deserialize, Serialize};

use super::store::Store;
use crate::files::{read_json, write_json};
use crate::{HvError, MachineLimits};

/// On disk, as a process outlives the operator.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Held {
    now: MachineLimits,
    /// The disk rate at the start of the process: the share keeps it.
    share: Option<u64>,
}

impl Store {
    /// The limits that a process begins with.
    pub fn limit(&self, name: &DomainName, limits: MachineLimits) -> Result<(), HvError> {
        write_json(
            &self.limits_file(name),
            &Held { now: limits, share: limits.disk_bytes_per_second },
        )
    }

    /// Like libvirt's: all limits but the share's can change.
    pub fn update_limits(
        &self,
        name: &DomainName,
        limits: &MachineLimits,
    ) -> Result<Option<String>, HvError> {
        self.kept(name).ok_or_else(|| HvError::NoSuchMachine(name.clone()))?;
        let held = self.held(name).unwrap_or_default();
        write_json(&self.limits_file(name), &Held { now: *limits, ..held })?;
        Ok(self.outdated(name, limits))
    }

    /// Why a machine can't have these limits in its process.
    pub fn outdated(&self, name: &DomainName, limits: &MachineLimits) -> Option<String> {
        let share = self.held(name).unwrap_or_default().share;
        (share != limits.disk_bytes_per_second)
            .then(|| "the rate of its share is its process's".to_owned())
    }

    pub fn limits(&self, name: &DomainName) -> Option<MachineLimits> {
        self.held(name).map(|held| held.now)
    }

    fn held(&self, name: &DomainName) -> Option<Held> {
        read_json(&self.limits_file(name))
    }

    fn limits_file(&self, name: &DomainName) -> PathBuf {
        self.machine(name).join("limits.json")
    }
}
