//! The host edge: the operator's requests to a host of machines, and their implementations.
//!
//! [`Hypervisor`] is the operator's whole outside world for machines. It consists of five traits,
//! one for each subject: host, goldens, machines, shares and links. `libvirt::Libvirt` implements
//! it in production, `fake::FakeHypervisor` in tests. This crate does not know Kubernetes or the
//! guest protocol.
#![deny(unsafe_code)]

mod api;
mod error;
#[cfg(feature = "fault-injection")]
pub mod fake;
mod files;
mod firewall;
pub mod libvirt;
mod locks;
mod proof;
mod sabotage;
mod step_hook;
mod steps;
mod workspace;

pub use agentvm_types::{MachineLimits, Resources, Tier, TierReport};
pub use api::{
    Accelerator, ByteStream, Channel, CollectSpec, Collected, CollectedFile, DiskUse, Golden,
    GoldenApi, HostApi, HostFacts, Hypervisor, InputFile, LinkApi, Machine, MachineApi,
    MachineKind, MachineRecord, MachineSpec, Mark, PowerState, RefusedPolicies, ShareApi,
    SkippedEntry, Stop, TemplateSpec, Traffic, Usage,
};
pub use error::HvError;
pub use files::in_memory;
pub use firewall::{Firewall, ipv6};
pub use proof::{Check, Proof};
#[cfg(feature = "fault-injection")]
pub use step_hook::HookAction;
pub use step_hook::StepHook;
pub use steps::{CaptureStep, CreateStep, ResetStep, Step};
