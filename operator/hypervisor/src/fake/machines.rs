//! Machines of the fake: each call is file and process work of the store.

use agentvm_core::names::DomainName;

use super::{FakeHypervisor, Op};
use crate::{
    Channel, HvError, Machine, MachineApi, MachineLimits, MachineSpec, Mark, PowerState, Proof,
    Stop, Usage,
};

#[async_trait::async_trait]
impl MachineApi for FakeHypervisor {
    async fn create(&self, spec: &MachineSpec) -> Result<(), HvError> {
        let spec = spec.clone();
        self.call(Op::Create, move |store| store.create(&spec)).await
    }

    async fn reset(&self, spec: &MachineSpec) -> Result<Proof, HvError> {
        let spec = spec.clone();
        self.call(Op::Reset, move |store| store.reset(&spec)).await
    }

    async fn update_limits(
        &self,
        name: &DomainName,
        limits: &MachineLimits,
    ) -> Result<Option<String>, HvError> {
        let (name, limits) = (name.clone(), *limits);
        self.call(Op::UpdateLimits, move |store| store.update_limits(&name, &limits)).await
    }

    async fn resume(&self, name: &DomainName) -> Result<(), HvError> {
        let name = name.clone();
        self.call(Op::Resume, move |store| store.resume(&name)).await
    }

    async fn pause(&self, name: &DomainName) -> Result<(), HvError> {
        let name = name.clone();
        self.call(Op::Pause, move |store| store.set_paused(&name, true)).await
    }

    async fn park(&self, name: &DomainName, evidence: &str) -> Result<(), HvError> {
        let (name, mark) = (name.clone(), Mark::Parked { evidence: evidence.to_owned() });
        self.call(Op::Park, move |store| store.set_mark(&name, &mark)).await
    }

    async fn quarantine(&self, name: &DomainName, until: i64, why: &str) -> Result<(), HvError> {
        let (name, mark) = (name.clone(), Mark::Quarantined { until, why: why.to_owned() });
        self.call(Op::Quarantine, move |store| store.set_mark(&name, &mark)).await
    }

    async fn usage(&self, name: &DomainName) -> Result<Usage, HvError> {
        let name = name.clone();
        self.call(Op::Usage, move |store| store.usage(&name)).await
    }

    async fn state(&self, name: &DomainName) -> Result<PowerState, HvError> {
        let name = name.clone();
        self.call(Op::State, move |store| Ok(store.state(&name))).await
    }

    async fn destroy(&self, name: &DomainName, _: Stop) -> Result<(), HvError> {
        let name = name.clone();
        self.call(Op::Destroy, move |store| store.destroy(&name)).await
    }

    async fn list(&self) -> Result<Vec<Machine>, HvError> {
        self.call(Op::List, |store| Ok(store.list())).await
    }

    async fn connect(&self, name: &DomainName) -> Result<Channel, HvError> {
        let wanted = name.clone();
        let socket = self.call(Op::Connect, move |store| store.socket(&wanted)).await?;
        let stream = tokio::net::UnixStream::connect(&socket).await;
        let stream = stream.map_err(|source| HvError::Io {
            what: format!("connect to {}", socket.display()),
            source,
        })?;
        Ok(self.knobs().tapped(name, Box::new(stream)))
    }
}
