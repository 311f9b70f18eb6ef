//! Shares of the fake: plain folders.

use std::path::Path;

use agentvm_core::names::DomainName;

use super::store::Store;
use super::{FakeHypervisor, Op};
use crate::workspace::budget::{Cancel, CancelOnDrop};
use crate::workspace::{collect, input, virtfs::Mapping};
use crate::{CollectSpec, Collected, HvError, InputFile, ShareApi};

#[async_trait::async_trait]
impl ShareApi for FakeHypervisor {
    async fn put_input(&self, name: &DomainName, files: Vec<InputFile>) -> Result<(), HvError> {
        let name = name.clone();
        self.call(Op::PutInput, move |store| store.put_input(&name, &files)).await
    }

    async fn collect(
        &self,
        name: &DomainName,
        spec: &CollectSpec,
        into: &Path,
    ) -> Result<Collected, HvError> {
        let (name, spec, into) = (name.clone(), spec.clone(), into.to_owned());
        let cancel = Cancel::default();
        let _on_drop = CancelOnDrop(cancel.clone());
        self.call(Op::Collect, move |store| {
            collect::collect(&store.existing_share(&name)?, &spec, &into, cancel)
        })
        .await
    }
}

impl Store {
    /// The mark goes first: a share with the input of a run does not belong to a parked machine.
    pub fn put_input(&self, name: &DomainName, files: &[InputFile]) -> Result<(), HvError> {
        let share = self.existing_share(name)?;
        self.unmark(name)?;
        input::put(&share, Mapping::Plain, files)
    }
}
