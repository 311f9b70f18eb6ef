//! The Kubernetes API of agentvm: three kinds in group `agentvm.dev/v1alpha1`, their rules and columns.
//!
//! Knows nothing but the API: no defaults of a host, no decisions. The committed YAML in `manifests/crds/` is written from here.
#![forbid(unsafe_code)]

mod agent_run;
mod agent_run_status;
mod agent_vm_pool;
mod common;
mod condition;
mod golden_snapshot;

pub use agent_run::{
    AgentRun, AgentRunSpec, Code, ContentSource, DesiredState, EnvVar, InputFileSpec, KeyRef, Language, OutputSpec,
    Place, RunAs, ValueSource,
};
pub use agent_run_status::{
    AcceptedReason, AgentRunStatus, Attempt, OutputFile, OutputStatus, ScheduledReason, SucceededReason, Timings,
};
pub use agent_vm_pool::{
    AgentVMPool, AgentVMPoolSpec, AgentVMPoolStatus, NetworkMode, NetworkSpec, PoolNode, PoolReason, Warm,
};
pub use common::{LocalRef, MAX_SPEC_BYTES, MAX_STATUS_BYTES};
pub use condition::{Condition, ConditionStatus, condition_type};
pub use golden_snapshot::{
    Builtin, CustomResources, GoldenNode, GoldenNodeState, GoldenReason, GoldenSnapshot, GoldenSnapshotSpec,
    GoldenSnapshotStatus, Profile, ResourcesSpec, Rootfs, Setup, SetupStep, Source,
};
