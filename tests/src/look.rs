//! Reads statuses: conditions of any of the kinds, by their type.

use agentvm_crds::{AgentRun, AgentVMPool, Condition, GoldenSnapshot};

/// An object with conditions.
pub trait Conditioned {
    fn conditions(&self) -> &[Condition];
}

macro_rules! conditioned {
    ($($kind:ty),*) => {$(
        impl Conditioned for $kind {
            fn conditions(&self) -> &[Condition] {
                self.status.as_ref().map_or(&[], |status| &status.conditions)
            }
        }
    )*};
}

conditioned!(AgentRun, AgentVMPool, GoldenSnapshot);

/// The condition of a type.
pub fn condition<'a>(object: &'a impl Conditioned, type_: &str) -> Option<&'a Condition> {
    object.conditions().iter().find(|condition| condition.type_ == type_)
}

/// `True/Completed`, or nothing without such a condition.
pub fn reason(object: &impl Conditioned, type_: &str) -> String {
    condition(object, type_).map(|c| format!("{:?}/{}", c.status, c.reason)).unwrap_or_default()
}
