//! The Kubernetes API of agentvm: three kinds in group `agentvm.dev/v1alpha1`, with their rules and
//! columns.
//!
//! This crate knows only the API: no defaults of a host, no decisions. It writes the YAML that is
//! committed in `manifests/crds/`.
#![forbid(unsafe_code)]
#![expect(clippy::doc_markdown, reason = "kubectl explain shows the comments, without markup")]
#![expect(clippy::duplicated_attributes, reason = "each printer column has a type of its own")]

mod agent_run;
mod agent_run_cel;
mod agent_run_files;
mod agent_run_program;
mod agent_run_status;
mod agent_vm_pool;
mod agent_vm_pool_status;
mod cel;
mod common;
mod condition;
mod golden_snapshot;
mod golden_snapshot_status;
mod manifests;
mod network;
mod reasons;
mod reference;
mod roles;
mod schema;

pub use agent_run::{AgentRun, AgentRunSpec, DesiredState, QueueSpec, RunAs};
pub use agent_run_files::{ContentSource, InputFileSpec, OutputSpec, Place};
pub use agent_run_program::{Code, EnvVar, KeyRef, Language, ValueSource};
pub use agent_run_status::{
    AcceptedReason, AgentRunStatus, Attempt, OutputFile, OutputStatus, ResetCheck, ResetStatus,
    ScheduledReason, SucceededReason, Timings,
};
pub use agent_vm_pool::{AgentVMPool, AgentVMPoolSpec, ReusePolicy, Warm};
pub use agent_vm_pool_status::{
    AgentVMPoolStatus, KeyUsage, PoolLimits, PoolNode, PoolQueue, PoolReason,
};
pub use common::{LocalRef, MAX_SPEC_BYTES, MAX_STATUS_BYTES};
pub use condition::{Condition, ConditionStatus, condition_type};
pub use golden_snapshot::{
    Builtin, CustomResources, GoldenSnapshot, GoldenSnapshotSpec, Profile, ResourcesSpec, Rootfs,
    Setup, SetupNetwork, SetupNetworkMode, SetupStep, Source,
};
pub use golden_snapshot_status::{GoldenNode, GoldenNodeState, GoldenReason, GoldenSnapshotStatus};
pub use manifests::{all_crds, manifests, role_manifests};
pub use network::{
    AllowSpec, DeniedFlow, IpFamily, LimitsSpec, NetworkMode, NetworkSpec, Protocol, RunNetwork,
};
pub use reference::reference;
pub use roles::all_roles;
