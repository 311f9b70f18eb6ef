//! The host edge: five traits, one for each subject, and [`Hypervisor`] as all of them together.
//!
//! Code that needs one subject can ask for its trait alone. Each file holds a trait and its nouns.

mod goldens;
mod host;
mod links;
mod machine_record;
mod machines;
mod shares;

pub use goldens::{Golden, GoldenApi, TemplateSpec};
pub use host::{Accelerator, DiskUse, HostApi, HostFacts};
pub use links::{LinkApi, RefusedPolicies, Traffic};
pub use machine_record::{MachineKind, MachineRecord};
pub use machines::{
    ByteStream, Channel, Machine, MachineApi, MachineSpec, Mark, PowerState, Stop, Usage,
};
pub use shares::{CollectSpec, Collected, CollectedFile, InputFile, ShareApi, SkippedEntry};

/// A host of machines.
///
/// Every call is idempotent and has a deadline. After an expired deadline the answer is
/// [`crate::HvError::OutcomeUnknown`]. The caller then observes the host again; it must not assume
/// that nothing happened.
pub trait Hypervisor: HostApi + GoldenApi + MachineApi + ShareApi + LinkApi {}

impl<T: HostApi + GoldenApi + MachineApi + ShareApi + LinkApi> Hypervisor for T {}
