//! The machines that this process works on at this moment, and the templates that it has booted.
//! The sweep must not take them for debris.

use std::collections::HashSet;
use std::sync::Mutex;

use agentvm_core::names::DomainName;

use crate::locks::lock;

/// The names of those machines.
#[derive(Debug, Default)]
pub struct AtWork(Mutex<HashSet<String>>);

impl AtWork {
    pub fn insert(&self, name: &DomainName) {
        lock(&self.0).insert(name.as_str().to_owned());
    }

    pub fn remove(&self, name: &DomainName) {
        lock(&self.0).remove(name.as_str());
    }

    pub fn contains(&self, name: &DomainName) -> bool {
        lock(&self.0).contains(name.as_str())
    }

    /// Inserts the name until the guard is dropped, also when the job panics.
    pub fn guard(&self, name: &DomainName) -> AtWorkGuard<'_> {
        self.insert(name);
        AtWorkGuard(self, name.clone())
    }
}

/// Work on a machine goes on while this lives.
#[derive(Debug)]
pub struct AtWorkGuard<'a>(&'a AtWork, DomainName);

impl Drop for AtWorkGuard<'_> {
    fn drop(&mut self) {
        self.0.remove(&self.1);
    }
}
