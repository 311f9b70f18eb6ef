//! Machines: each call is a job on the lane of its urgency.

use std::sync::Arc;

use agentvm_core::names::DomainName;
use virt::connect::Connect;

use crate::libvirt::connection::lanes::Wanted;
use crate::libvirt::handle::{Libvirt, blocking};
use crate::libvirt::host::state::Host;
use crate::libvirt::machine::{create, observe, power};
use crate::libvirt::reset::in_place;
use crate::{
    Channel, HvError, Machine, MachineApi, MachineLimits, MachineSpec, PowerState, Proof, Stop,
    Usage,
};

#[async_trait::async_trait]
impl MachineApi for Libvirt {
    async fn create(&self, spec: &MachineSpec) -> Result<(), HvError> {
        let (spec, within) = (spec.clone(), self.host.config.start_timeout);
        let job = move |host: &Host, conn: &Connect, wanted: Wanted<'_>| {
            create::create(host, conn, &spec, wanted)
        };
        self.build_if("create a machine", within, job).await
    }

    async fn reset(&self, spec: &MachineSpec) -> Result<Proof, HvError> {
        // This comes before the device state is loaded: messages of the ending incarnation are not
        // for the next one.
        self.channels.close(&spec.record.name);
        let (host, caches) = (Arc::clone(&self.host), Arc::clone(&self.caches));
        let spec = spec.clone();
        let (within, sabotage) = (self.host.config.start_timeout, self.host.config.sabotage);
        let job = move |conn: &Connect, wanted: Wanted<'_>| {
            in_place::reset(&host, &caches, conn, &spec, sabotage, wanted)
        };
        self.resets.call("reset a machine", within, job).await
    }

    async fn update_limits(
        &self,
        name: &DomainName,
        limits: &MachineLimits,
    ) -> Result<Option<String>, HvError> {
        let (host, name, limits) = (Arc::clone(&self.host), name.clone(), *limits);
        let within = self.host.config.call_timeout;
        let job = move |conn: &Connect, wanted: Wanted<'_>| {
            power::update_limits(&host, conn, &name, &limits, wanted)
        };
        self.resets.call("change a machine's limits", within, job).await
    }

    async fn resume(&self, name: &DomainName) -> Result<(), HvError> {
        let (host, name, within) =
            (Arc::clone(&self.host), name.clone(), self.host.config.call_timeout);
        let job =
            move |conn: &Connect, wanted: Wanted<'_>| power::resume(&host, conn, &name, wanted);
        self.claims.call("resume a machine", within, job).await
    }

    async fn pause(&self, name: &DomainName) -> Result<(), HvError> {
        let name = name.clone();
        self.claim("pause a machine", move |host, conn| power::pause(host, conn, &name)).await
    }

    async fn park(&self, name: &DomainName, evidence: &str) -> Result<(), HvError> {
        let (name, evidence) = (name.clone(), evidence.to_owned());
        self.claim("park a machine", move |host, conn| power::park(host, conn, &name, &evidence))
            .await
    }

    async fn quarantine(&self, name: &DomainName, until: i64, why: &str) -> Result<(), HvError> {
        let (name, why) = (name.clone(), why.to_owned());
        let job =
            move |host: &Host, conn: &Connect| power::quarantine(host, conn, &name, until, &why);
        self.claim("quarantine a machine", job).await
    }

    async fn usage(&self, name: &DomainName) -> Result<Usage, HvError> {
        let (host, name) = (Arc::clone(&self.host), name.clone());
        blocking("look at a machine's memory", move || power::usage(&host.folder, &name)).await
    }

    async fn state(&self, name: &DomainName) -> Result<PowerState, HvError> {
        let name = name.clone();
        self.claim("ask for a machine's state", move |host, conn| {
            observe::state(&host.folder, &host.at_work, conn, &name)
        })
        .await
    }

    async fn destroy(&self, name: &DomainName, how: Stop) -> Result<(), HvError> {
        let (name, within) =
            (name.clone(), self.host.config.stop_timeout + self.host.config.start_timeout);
        let job = move |host: &Host, conn: &Connect, wanted: Wanted<'_>| {
            power::destroy(host, conn, &name, how, wanted)
        };
        self.build_if("destroy a machine", within, job).await
    }

    async fn list(&self) -> Result<Vec<Machine>, HvError> {
        let job = |host: &Host, conn: &Connect| {
            observe::list(&host.folder, &host.at_work, &host.config.instance, conn)
        };
        self.claim("list the machines", job).await
    }

    async fn connect(&self, name: &DomainName) -> Result<Channel, HvError> {
        self.channels.open(name, &self.host.folder.machine(name).channel()).await
    }
}
