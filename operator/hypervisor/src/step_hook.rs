//! The fault hook of tests: a function that may end a call before any of its steps. Without the
//! feature `fault-injection` there is no such function, and every step is taken.

#[cfg(feature = "fault-injection")]
pub use injected::{HookAction, StepHook};

#[cfg(not(feature = "fault-injection"))]
pub use absent::StepHook;

#[cfg(not(feature = "fault-injection"))]
mod absent {
    use agentvm_core::names::DomainName;

    use crate::{HvError, Step};

    /// The place of the hook in the product.
    #[derive(Clone, Debug, Default)]
    pub struct StepHook;

    impl StepHook {
        #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "the hook of tests may")]
        pub(crate) fn permit(&self, _: &DomainName, _: Step) -> Result<(), HvError> {
            Ok(())
        }
    }
}

#[cfg(feature = "fault-injection")]
mod injected {
    use std::fmt;
    use std::sync::Arc;

    use agentvm_core::names::DomainName;

    use crate::{HvError, Step};

    /// The decision of a [`StepHook`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum HookAction {
        Go,
        /// End the call here and clean up nothing, like an operator that is killed. The call
        /// returns [`HvError::Killed`].
        Die,
    }

    type Hook = dyn Fn(&DomainName, Step) -> HookAction + Send + Sync;

    /// A function that is called before each step. Tests kill machines and operators in it.
    #[derive(Clone, Default)]
    pub struct StepHook(Option<Arc<Hook>>);

    impl StepHook {
        pub fn new(hook: impl Fn(&DomainName, Step) -> HookAction + Send + Sync + 'static) -> Self {
            Self(Some(Arc::new(hook)))
        }

        /// Asks the hook before a step. An error ends the call, and everything stays as it is.
        pub(crate) fn permit(&self, name: &DomainName, step: Step) -> Result<(), HvError> {
            match self.0.as_ref().map_or(HookAction::Go, |hook| hook(name, step)) {
                HookAction::Go => Ok(()),
                HookAction::Die => Err(HvError::Killed { name: name.clone(), step }),
            }
        }
    }

    impl fmt::Debug for StepHook {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "StepHook({})", if self.0.is_some() { "set" } else { "none" })
        }
    }
}
